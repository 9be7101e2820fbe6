//! The model: the states that are allowed after a crash, according to the child's reports before the crash.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use kv_core::{Deadline, Key, KeyPrefix};
use kv_sled::SledStore;

use crate::child::{Report, Step, TASKS};
use crate::{all_entries, deadline_of};

/// The entries of one task: the value and the deadline of each key.
type State = BTreeMap<Key, (Bytes, Deadline)>;

/// The entries of each task at the last check.
#[derive(Debug)]
pub(crate) struct Model {
    seed: u64,
    tasks: [State; TASKS],
}

impl Model {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, tasks: Default::default() }
    }

    /// Compares the store with the allowed states, and keeps the state of the store for the next check. Returns the
    /// number of lost steps among the steps that were acknowledged within the interval.
    ///
    /// For each task, two states are allowed: the state after the last acknowledged step, and the state after the step
    /// that the task tried next. With an interval, the state after any step that was acknowledged within the interval
    /// before the kill is allowed, too.
    pub(crate) async fn check(
        &mut self,
        store: &SledStore,
        reports: &[Report],
        killed_at: SystemTime,
        interval: Duration,
        round: usize,
    ) -> usize {
        let mut found: [State; TASKS] = Default::default();
        for (key, entry) in all_entries(store).await {
            let task: usize = key.segments().next().unwrap()[1..].parse().unwrap();
            let deadline = deadline_of(&entry);
            found[task].insert(key, (entry.value, deadline));
        }
        let safe_until = (killed_at - interval).duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
        let mut lost = 0;
        for (task, (before, found)) in self.tasks.iter_mut().zip(found).enumerate() {
            let of_task = || reports.iter().filter(|report| report.task == task);
            let acknowledged: Vec<_> = of_task().filter(|report| report.is_acknowledged).collect();
            let tried = of_task().filter(|report| !report.is_acknowledged).map(|report| report.step).max();
            // All states after at least `min_steps` steps are allowed.
            let safe = acknowledged.iter().filter(|report| u128::from(report.at_millis) < safe_until).count();
            let min_steps = if interval.is_zero() { acknowledged.len() } else { safe };

            let mut state = before.clone();
            let mut steps = acknowledged.iter().map(|report| report.step).collect::<Vec<_>>();
            steps.extend(tried.filter(|tried| !steps.contains(tried)));
            let mut matching = (min_steps == 0 && state == found).then_some(0);
            for (position, step) in steps.iter().enumerate() {
                apply(&mut state, Step::of(self.seed, task, *step));
                if position + 1 >= min_steps && state == found {
                    matching = Some(position + 1);
                }
            }
            let Some(matching) = matching else {
                let (known, end) = (acknowledged.last(), steps.last());
                panic!(
                    "round {round}, task {task}: no allowed state after {min_steps} or more of {} steps was found; last acknowledged \
                     {known:?}, tried {end:?}\nexpected at the end: {}\nfound: {}",
                    steps.len(),
                    format_state(&state),
                    format_state(&found)
                );
            };
            lost += acknowledged.len().saturating_sub(matching);
            *before = found;
        }
        lost
    }
}

fn apply(state: &mut State, step: Step) {
    let at = |millis: Option<u64>| millis.map_or(Deadline::NEVER, Deadline::from_millis);
    match step {
        Step::Set { key, value, deadline_millis } => {
            state.insert(key, (value, at(deadline_millis)));
        }
        Step::SetIfAbsent { key, value } => {
            state.entry(key).or_insert((value, Deadline::NEVER));
        }
        Step::Clear { prefix } => {
            let prefix = KeyPrefix::from(prefix);
            state.retain(|key, _| !prefix.covers(key));
        }
        Step::Delete { key } => {
            state.remove(&key);
        }
        Step::Touch { key, deadline_millis } => {
            if let Some((_, deadline)) = state.get_mut(&key) {
                *deadline = at(Some(deadline_millis));
            }
        }
        Step::Commit { keys, value, deleted } => {
            for key in keys {
                state.insert(key, (value.clone(), Deadline::NEVER));
            }
            state.remove(&deleted);
        }
        Step::Increment { key } => {
            let (count, _) = state.entry(key).or_insert((Bytes::from_static(b"0"), Deadline::NEVER));
            let next = std::str::from_utf8(count).unwrap().parse::<i64>().unwrap() + 1;
            *count = next.to_string().into();
        }
    }
}

fn format_state(state: &State) -> String {
    let line = |(key, (value, deadline)): (&Key, &(Bytes, Deadline))| {
        let start = String::from_utf8_lossy(&value[..value.len().min(24)]).into_owned();
        format!("\n  {key}: {start} ({} bytes) {deadline:?}", value.len())
    };
    state.iter().map(line).collect()
}
