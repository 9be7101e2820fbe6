//! The keys that all tasks write: counters, a number that is swapped by its version, and the keys of transactions that
//! replace each other.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use anykv::Version;

use crate::group::Reading;
use crate::operation::{Answer, Seen, SharedCall, Value};
use crate::track::{Fault, Violation};

/// The first segment of the shared keys.
pub(crate) const GROUP: &str = "shared";

/// The counters, and at the end the number that is swapped. Answered calls and some unanswered calls increase these
/// numbers, and no call decreases them.
pub(crate) const COUNTERS: [&str; 3] = ["count1", "count2", "swapped"];

/// The keys that each shared transaction changes.
pub(crate) const TOGETHER: [&str; 3] = ["together1", "together2", "together3"];

/// The maximum number of operations in the history of the shared keys.
const MAX_HISTORY: usize = 60;

/// The place of a call and of its return in the log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) called: u64,
    /// `None` if there was no answer.
    pub(crate) returned: Option<u64>,
}

#[derive(Debug)]
struct Addition {
    by: i64,
    /// The sum that the call returned, or `None` if the call may have happened.
    sum: Option<i64>,
    place: Place,
}

/// A transaction on [`TOGETHER`]: the writer and the number of its values, or `None` if the transaction removed the
/// keys.
#[derive(Debug, Clone)]
struct Replacement {
    written: Option<(usize, u64)>,
    versions: Option<Vec<Option<Version>>>,
    place: Place,
}

#[derive(Debug)]
pub(crate) struct Shared {
    /// The sums at the beginning of the round.
    sums: BTreeMap<&'static str, i64>,
    additions: BTreeMap<&'static str, Vec<Addition>>,
    replacements: Vec<Replacement>,
    history: VecDeque<Arc<str>>,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            sums: COUNTERS.into_iter().map(|key| (key, 0)).collect(),
            additions: BTreeMap::new(),
            replacements: vec![Replacement::first(None)],
            history: VecDeque::new(),
        }
    }
}

impl Replacement {
    /// The state at the beginning of a round.
    fn first(written: Option<(usize, u64)>) -> Self {
        Self { written, versions: None, place: Place { called: 0, returned: Some(0) } }
    }
}

impl Shared {
    /// Records a call with its answer, or with `None` if there was no answer.
    pub(crate) fn apply(
        &mut self,
        call: &SharedCall,
        place: Place,
        answer: Option<&Answer>,
        line: &Arc<str>,
    ) -> Result<(), Violation> {
        if self.history.len() == MAX_HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(Arc::clone(line));
        let answer = match answer {
            Some(Answer::Failed(failure)) if failure.maybe_applied => None,
            Some(Answer::Failed(_) | Answer::Refused(_)) => return Ok(()),
            other => other,
        };
        let place = if answer.is_none() { Place { returned: None, ..place } } else { place };
        let mut add = |key: &str, by, sum| {
            if let Some(key) = COUNTERS.into_iter().find(|known| *known == key) {
                self.additions.entry(key).or_default().push(Addition { by, sum, place });
            }
        };
        let mut replace = |written, versions| self.replacements.push(Replacement { written, versions, place });
        match (call, answer) {
            (SharedCall::Add { key, by }, None) => add(key, *by, None),
            (SharedCall::Add { key, by }, Some(Answer::Sum(sum))) => add(key, *by, Some(*sum)),
            (SharedCall::Swap { key, .. }, None) => add(key, 1, None),
            (SharedCall::Swap { key, to, .. }, Some(Answer::Stored(_))) => add(key, 1, Some(*to)),
            (SharedCall::WriteAll { writer, number, .. }, None) => replace(Some((*writer, *number)), None),
            (SharedCall::WriteAll { writer, number, .. }, Some(Answer::Committed(versions))) => {
                replace(Some((*writer, *number)), Some(versions.clone()));
            }
            (SharedCall::RemoveAll, None) => replace(None, None),
            (SharedCall::RemoveAll, Some(Answer::Committed(_))) => replace(None, Some(Vec::new())),
            (call, Some(answer)) => {
                return Err(self.violation(GROUP, Fault::Wrong, format!("{call:?} was answered by {answer:?}")));
            }
        }
        Ok(())
    }

    /// Judges the entries that were read after the kill. The next round starts from these entries.
    pub(crate) fn judge(&mut self, readings: &BTreeMap<String, Reading>) -> Vec<Violation> {
        let found = |key: &str| readings.get(key).and_then(|(found, _)| found.clone());
        let mut violations = Vec::new();
        for key in COUNTERS {
            let base = self.sums.get(key).copied().unwrap_or_default();
            let additions = self.additions.remove(key).unwrap_or_default();
            match sum_of(found(key)).and_then(|sum| judge_sum(base, &additions, sum).map(|()| sum)) {
                Ok(sum) => drop(self.sums.insert(key, sum)),
                Err((fault, problem)) => violations.push(self.violation(key, fault, problem)),
            }
        }
        let replacements = std::mem::take(&mut self.replacements);
        match judge_together(&replacements, &TOGETHER.map(found)) {
            Ok(written) => self.replacements = vec![Replacement::first(written)],
            Err((fault, problem)) => violations.push(self.violation("together1..3", fault, problem)),
        }
        violations
    }

    /// The amount of the last acknowledged addition of this round to a counter.
    pub(crate) fn last_addition(&self, key: &str) -> Option<i64> {
        self.additions.get(key)?.iter().rev().find(|addition| addition.sum.is_some()).map(|addition| addition.by)
    }

    fn violation(&self, key: &str, fault: Fault, problem: String) -> Violation {
        Violation { fault, key: format!("{GROUP}#{key}"), problem, history: self.history.iter().cloned().collect() }
    }
}

type Problem = (Fault, String);

fn sum_of(found: Option<Seen>) -> Result<i64, Problem> {
    match found.map(|seen| (seen.value, seen.deadline)) {
        None => Ok(0),
        Some((Value::Number(sum), None)) => Ok(sum),
        Some(other) => Err((Fault::Wrong, format!("found {other:?}, which is not a counter without a deadline"))),
    }
}

/// Fails unless each answered addition happened once, in the order of the log, and the final sum contains all answered
/// additions and only some unanswered additions.
fn judge_sum(base: i64, additions: &[Addition], sum: i64) -> Result<(), Problem> {
    let mut answered: Vec<(i64, &Addition)> =
        additions.iter().filter_map(|addition| addition.sum.map(|sum| (sum, addition))).collect();
    answered.sort_by_key(|(sum, _)| *sum);
    let (mut reached, mut last_called) = (base, 0);
    for (returned_sum, addition) in &answered {
        if returned_sum - addition.by < reached {
            let problem = format!("the answer {returned_sum} to an addition of {} begins below {reached}", addition.by);
            return Err((Fault::Wrong, problem));
        }
        if addition.place.returned.is_some_and(|returned| returned < last_called) {
            return Err((Fault::Wrong, format!("the answer {returned_sum} is above that of a later call")));
        }
        (reached, last_called) = (*returned_sum, last_called.max(addition.place.called));
    }
    let acknowledged = answered.iter().fold(base, |sum, (_, addition)| sum + addition.by);
    let unanswered: Vec<i64> =
        additions.iter().filter(|addition| addition.sum.is_none()).map(|addition| addition.by).collect();
    let mut possible = vec![acknowledged];
    for by in &unanswered {
        let with: Vec<i64> = possible.iter().map(|sum| sum + by).collect();
        possible.extend(with);
        possible.sort_unstable();
        possible.dedup();
    }
    if possible.contains(&sum) {
        return Ok(());
    }
    let fault = if sum < acknowledged { Fault::Lost } else { Fault::Wrong };
    Err((fault, format!("found {sum}; acknowledged are {acknowledged}, unanswered are the additions {unanswered:?}")))
}

/// Fails unless all keys have the values of one transaction, and no later acknowledged transaction replaced these
/// values.
fn judge_together(
    replacements: &[Replacement],
    found: &[Option<Seen>; TOGETHER.len()],
) -> Result<Option<(usize, u64)>, Problem> {
    let written = |seen: &Option<Seen>| match seen {
        None => Ok(None),
        Some(Seen { value: Value::Written { writer, number, .. }, deadline: None, .. }) => Ok(Some((*writer, *number))),
        Some(other) => Err((Fault::Wrong, format!("found {other:?}, which no transaction wrote"))),
    };
    let [first, others @ ..] = found;
    let first = written(first)?;
    for other in others {
        if written(other)? != first {
            return Err((Fault::Wrong, format!("the keys have parts of several transactions: {found:?}")));
        }
    }
    let last_called = replacements.iter().filter(|one| one.place.returned.is_some()).map(|one| one.place.called).max();
    let candidates = replacements.iter().filter(|one| one.written == first);
    let is_last = |one: &Replacement| one.place.returned.is_none_or(|returned| Some(returned) >= last_called);
    let found_versions = || found.iter().map(|seen| seen.as_ref().and_then(|seen| seen.version));
    let fits = |one: &Replacement| match &one.versions {
        Some(versions) if first.is_some() => found_versions().eq(versions.iter().copied()),
        _ => true,
    };
    if candidates.clone().any(|one| is_last(one) && fits(one)) {
        return Ok(first);
    }
    let problem = format!("found {found:?}; it was replaced by an acknowledged transaction, or its versions changed");
    let is_replaced = candidates.clone().next().is_some() && !candidates.clone().any(is_last);
    let fault = if is_replaced { Fault::Lost } else { Fault::Wrong };
    Err((fault, problem))
}
