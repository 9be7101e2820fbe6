//! One key: its possible states, its versions so far, and its last operations.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::sync::Arc;

use anykv::Version;

use crate::operation::{Answer, Seen, Value};
use crate::state::{Span, State, Step};

/// The maximum number of operations in the history of a key.
const MAX_HISTORY: usize = 40;

/// The maximum number of earlier values that are kept, to distinguish a lost write from a wrong value.
const MAX_EARLIER: usize = 200;

#[derive(Debug, Clone)]
pub(crate) struct Track {
    pub(crate) states: Vec<State>,
    /// All versions that the key had. No version may repeat (clause S-3).
    used: HashSet<Version>,
    earlier: VecDeque<Value>,
    history: VecDeque<Arc<str>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// An acknowledged write is missing.
    Lost,
    /// A value, an answer or a version that no order of the operations explains.
    Wrong,
}

/// An answer of the store that the operations do not explain.
#[derive(Debug, Clone)]
pub(crate) struct Violation {
    pub(crate) fault: Fault,
    pub(crate) key: String,
    pub(crate) problem: String,
    pub(crate) history: Vec<Arc<str>>,
}

impl Default for Track {
    fn default() -> Self {
        Self { states: vec![None], used: HashSet::new(), earlier: VecDeque::new(), history: VecDeque::new() }
    }
}

impl Track {
    pub(crate) fn record(&mut self, line: &Arc<str>) {
        if self.history.len() == MAX_HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(Arc::clone(line));
    }

    /// Applies a step with its answer. Fails if no possible state explains the answer.
    pub(crate) fn apply(&mut self, step: Step<'_>, span: Span, answer: Option<&Answer>) -> Result<(), String> {
        if let Some(Answer::Stored(version)) = answer {
            match version {
                None => return Err("a stored entry has no version".to_owned()),
                Some(version) if self.used.contains(version) => return Err(format!("version {version} repeats")),
                Some(_) => {}
            }
        }
        let (mut next, mut repeated) = (Vec::new(), false);
        for before in &self.states {
            for after in step.effects(before, span, answer) {
                let is_new = version(&after) != version(before);
                if is_new && version(&after).is_some_and(|version| self.used.contains(&version)) {
                    repeated = true;
                } else if !next.contains(&after) {
                    next.push(after);
                }
            }
        }
        if next.is_empty() && repeated {
            return Err(format!("the version in {} was the version of an earlier write", Shown(answer)));
        }
        if next.is_empty() {
            return Err(format!("no possible state explains {}\n{}", Shown(answer), self.possible()));
        }
        self.replace(next);
        Ok(())
    }

    /// Applies a step that may have happened. `version` is the version of the entry if the step happened.
    pub(crate) fn apply_unanswered(&mut self, step: Step<'_>, span: Span, version: Option<Version>) {
        let mut next = self.effects(step, span, None);
        for live in next.iter_mut().flatten().filter(|live| live.version.is_none()) {
            live.version = version;
        }
        next.extend(self.states.iter().cloned());
        self.replace(next);
    }

    pub(crate) fn effects(&self, step: Step<'_>, span: Span, answer: Option<&Answer>) -> Vec<State> {
        let mut next: Vec<State> = Vec::new();
        for state in self.states.iter().flat_map(|state| step.effects(state, span, answer)) {
            if !next.contains(&state) {
                next.push(state);
            }
        }
        next
    }

    /// The only possible value, if the entry has no deadline.
    pub(crate) fn certain(&self) -> Option<&Value> {
        match self.states.as_slice() {
            [Some(live)] if live.deadline.is_none() => Some(&live.value),
            _ => None,
        }
    }

    pub(crate) fn violation(&self, key: String, problem: String, found: Option<&Option<Seen>>) -> Violation {
        let is_lost = match found {
            None => false,
            Some(None) => true,
            Some(Some(seen)) => {
                let is_current = self.states.iter().flatten().any(|live| live.value == seen.value);
                !is_current && self.earlier.contains(&seen.value)
            }
        };
        let fault = if is_lost { Fault::Lost } else { Fault::Wrong };
        Violation { fault, key, problem, history: self.history.iter().cloned().collect() }
    }

    fn replace(&mut self, mut states: Vec<State>) {
        states.dedup();
        self.states = states;
        self.used.extend(self.states.iter().filter_map(version));
        for live in self.states.iter().flatten() {
            if self.earlier.back() != Some(&live.value) {
                self.earlier.push_back(live.value.clone());
            }
        }
        let surplus = self.earlier.len().saturating_sub(MAX_EARLIER);
        self.earlier.drain(..surplus);
    }

    fn possible(&self) -> String {
        let states: Vec<String> = self.states.iter().map(|state| format!("  possible: {state:?}")).collect();
        states.join("\n")
    }
}

fn version(state: &State) -> Option<Version> {
    state.as_ref().and_then(|live| live.version)
}

struct Shown<'a>(Option<&'a Answer>);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(answer) => write!(f, "{answer:?}"),
            None => f.write_str("the result of a check"),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fault, key, problem, history } = self;
        writeln!(f, "{fault:?} at key {key}: {problem}")?;
        writeln!(f, "  the last operations of the key, each as round, task, times in microseconds, call -> answer:")?;
        history.iter().try_for_each(|line| writeln!(f, "  {line}"))
    }
}
