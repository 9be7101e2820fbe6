//! The judgement of a round: the log is replayed, and every key of the store is compared with the result.

use std::collections::BTreeMap;
use std::sync::Arc;

use anykv::{Key, Kv, KvStore};
use futures_util::future::join_all;

use crate::choose::{group_name, keys_of_group};
use crate::error::Result;
use crate::group::{Group, Reading};
use crate::log::{Event, What, now_micros};
use crate::operation::{Answer, Operation, Seen};
use crate::perform::last;
use crate::shared::{COUNTERS, GROUP, Place, Shared, TOGETHER};
use crate::state::{Slack, Span};
use crate::track::{Fault, Violation};
use crate::worker::TASKS;

/// Everything that is known about the store.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) groups: Vec<Group>,
    pub(crate) shared: Shared,
    /// True if the handles of the store estimate the clock of a server. Their deadlines are less exact.
    estimates_clock: bool,
    slack: Slack,
}

/// The operations of a round.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Counts {
    pub(crate) acknowledged: u64,
    pub(crate) unanswered: u64,
}

/// The calls of a round that may fail: none, or those that return after the server was killed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outage {
    pub(crate) from: Option<u64>,
}

impl Model {
    /// The model of an empty store.
    pub(crate) fn new(url: &str) -> Self {
        let groups = (0..TASKS).map(|task| Group::new(group_name(task), keys_of_group())).collect();
        Self { groups, shared: Shared::default(), estimates_clock: url.starts_with("redis"), slack: Slack::default() }
    }

    /// Takes note that a handle was opened in this time.
    pub(crate) fn opened(&mut self, micros: u64) {
        if self.estimates_clock {
            self.slack = self.slack.max(Slack::with_opening(micros));
        }
    }

    /// Replays the log of a round.
    pub(crate) fn replay(&mut self, round: u64, events: Vec<Event>, outage: Outage) -> (Counts, Vec<Violation>) {
        let (mut counts, mut violations) = (Counts::default(), Vec::new());
        let mut open: BTreeMap<usize, (u64, u64, Operation)> = BTreeMap::new();
        for (place, Event { task, at, what }) in (1..).zip(events) {
            match what {
                What::Opened(micros) => self.opened(micros),
                What::Intent(operation) => drop(open.insert(task, (place, at, operation))),
                What::Answer(answer) => {
                    let Some((called, start, operation)) = open.remove(&task) else { continue };
                    let is_unanswered = answer.failures().any(|failure| failure.maybe_applied);
                    counts.unanswered += u64::from(is_unanswered);
                    counts.acknowledged += u64::from(answer.failures().next().is_none());
                    let line = line(round, task, start, Some(at), &operation, Some(&answer));
                    violations.extend(unexpected(&answer, at, outage).map(|problem| Violation {
                        fault: Fault::Wrong,
                        key: group_name(task),
                        problem,
                        history: vec![Arc::clone(&line)],
                    }));
                    let place = Place { called, returned: Some(place) };
                    violations.extend(self.apply(task, &operation, place, (start, at), Some(&answer), &line).err());
                }
            }
        }
        let end = now_micros();
        for (task, (called, start, operation)) in open {
            counts.unanswered += 1;
            let line = line(round, task, start, None, &operation, None);
            let place = Place { called, returned: None };
            violations.extend(self.apply(task, &operation, place, (start, end), None, &line).err());
        }
        (counts, violations)
    }

    fn apply(
        &mut self,
        task: usize,
        operation: &Operation,
        place: Place,
        (start, end): (u64, u64),
        answer: Option<&Answer>,
        line: &Arc<str>,
    ) -> Result<(), Violation> {
        match operation {
            Operation::Shared(call) => self.shared.apply(call, place, answer, line),
            Operation::Own(call) => match self.groups.get_mut(task) {
                Some(group) => group.apply(call, Span::new(start, end, self.slack), answer, line),
                None => Ok(()),
            },
        }
    }

    /// Reads every key with `get` and with `list`, and judges all entries.
    pub(crate) async fn judge(&mut self, kv: &Kv) -> Result<Vec<Violation>> {
        let start = now_micros();
        let mut readings: BTreeMap<String, BTreeMap<String, Reading>> = BTreeMap::new();
        for group in &self.groups {
            readings.insert(group.name().to_owned(), read_all(kv, group.name(), group.keys(), self.slack).await?);
        }
        let shared: Vec<String> = COUNTERS.iter().chain(&TOGETHER).map(|key| (*key).to_owned()).collect();
        readings.insert(GROUP.to_owned(), read_all(kv, GROUP, shared.iter(), self.slack).await?);
        let listed = kv.entries(Vec::<&str>::new()).all().await?;
        let mut keys = kv.keys(Vec::<&str>::new()).reverse().all().await?;
        keys.reverse();
        let whole = Span::new(start, now_micros(), self.slack);

        let mut violations: Vec<Violation> = Vec::new();
        for group in &mut self.groups {
            violations.extend(readings.get(group.name()).map(|readings| group.judge(readings)).into_iter().flatten());
        }
        violations.extend(readings.get(GROUP).map(|readings| self.shared.judge(readings)).into_iter().flatten());
        let listed: Vec<(Key, Seen)> = listed.into_iter().map(|(key, entry)| (key, Seen::from(entry))).collect();
        violations.extend(compare(&readings, &listed, &keys, whole));
        Ok(violations)
    }
}

async fn read_all(
    kv: &Kv,
    group: &str,
    keys: impl Iterator<Item = &String>,
    slack: Slack,
) -> anykv::Result<BTreeMap<String, Reading>> {
    let read = |name: &String| {
        let name = name.clone();
        async move {
            let start = now_micros();
            let found = kv.store().get(&Key::new([group, &name])?).await?.map(Seen::from);
            Ok((name, (found, Span::new(start, now_micros(), slack))))
        }
    };
    join_all(keys.map(read)).await.into_iter().collect()
}

/// Compares `list` with `get`. An entry whose deadline passes between the two reads may be in only one result.
fn compare(
    readings: &BTreeMap<String, BTreeMap<String, Reading>>,
    listed: &[(Key, Seen)],
    keys: &[Key],
    whole: Span,
) -> Vec<Violation> {
    let mut problems: Vec<(String, String)> = Vec::new();
    let mut complain = |key: &Key, problem: String| problems.push((key.as_str().to_owned(), problem));
    for (one, next) in listed.iter().zip(listed.iter().skip(1)) {
        if one.0 >= next.0 {
            complain(&one.0, format!("is listed before {}", next.0.as_str()));
        }
    }
    let got = |key: &Key| {
        let group = key.segments().next()?;
        readings.get(&*group)?.get(&last(key)).map(|(found, _)| found.as_ref())
    };
    for (key, entry) in listed {
        match got(key) {
            None => complain(key, format!("is listed as {entry:?}, and no task wrote it")),
            Some(Some(found)) if found == entry => {}
            Some(None) if !whole.ends_before(entry.deadline) => {}
            Some(found) => complain(key, format!("is listed as {entry:?}, and get returned {found:?}")),
        }
    }
    for (group, readings) in readings {
        for (name, (found, _)) in readings {
            let (Ok(key), Some(entry)) = (Key::new([group, name]), found) else { continue };
            let is_listed = listed.binary_search_by(|(listed, _)| listed.cmp(&key)).is_ok();
            if whole.ends_before(entry.deadline) && !(is_listed && keys.contains(&key)) {
                complain(&key, format!("get returned {entry:?}, and a list does not have it"));
            }
        }
    }
    for key in keys {
        if !listed.iter().any(|(listed, entry)| listed == key && whole.ends_before(entry.deadline))
            && got(key).flatten().is_none_or(|entry| whole.ends_before(entry.deadline))
        {
            complain(key, "a list of keys has it, and a list of entries does not".to_owned());
        }
    }
    let violation = |(key, problem)| Violation { fault: Fault::Wrong, key, problem, history: Vec::new() };
    problems.into_iter().map(violation).collect()
}

/// Returns the problem of an answer that no outage explains.
fn unexpected(answer: &Answer, at: u64, outage: Outage) -> Option<String> {
    let is_down = outage.from.is_some_and(|from| at >= from);
    let expected = |failure: &&crate::operation::Failure| is_down && (failure.unavailable || failure.maybe_applied);
    answer.failures().find(|failure| !expected(failure)).map(|failure| format!("a call failed: {}", failure.text))
}

fn line(
    round: u64,
    task: usize,
    start: u64,
    end: Option<u64>,
    operation: &Operation,
    answer: Option<&Answer>,
) -> Arc<str> {
    let answer = answer.map_or_else(|| "no answer".to_owned(), |answer| format!("{answer:?}"));
    let end = end.map_or_else(String::new, |end| format!("+{}", end.saturating_sub(start)));
    format!("round {round} task {task} {start}{end}: {operation:?} -> {answer}").into()
}
