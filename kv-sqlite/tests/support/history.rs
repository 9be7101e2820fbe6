//! A child that runs a part of a random history and prints each step, and the check of these lines against the model.

use std::collections::HashSet;
use std::io::Write;
use std::sync::Arc;

use kv_core::{ErrorKind, KvStore, ManualClock};
use kv_sqlite::{SqliteStore, SyncMode};

use super::model::{State, describe, is_same, moment, plan, read_states};
use super::step::{Condition, Item, Step, perform};

/// The number of tasks of a child. Only one task uses a key, so that the printed lines of the key are in the order of
/// its changes.
pub const TASKS: usize = 4;

/// The number of errors after which a task ends.
const MAX_ERRORS: u32 = 3;

/// The parameters of one run of a child, which is one round of a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    pub seed: u64,
    pub round: u64,
    /// The number of steps of each task.
    pub steps: u64,
    pub sync: SyncMode,
}

impl Run {
    pub fn to_name(self) -> String {
        let Self { seed, round, steps, sync } = self;
        format!("{seed} {round} {steps} {}", sync == SyncMode::EveryCommit)
    }

    pub fn from_name(name: &str) -> Self {
        let words: Vec<&str> = name.split(' ').collect();
        let number = |index: usize| words[index].parse().unwrap();
        let sync = if words[3] == "true" { SyncMode::EveryCommit } else { SyncMode::LosesOnPowerCut };
        Self { seed: number(0), round: number(1), steps: number(2), sync }
    }

    /// Returns the store's time in this round, in milliseconds. The rounds are a minute apart, so that an entry with a
    /// TTL of 30 s expires between two rounds.
    pub fn now(self) -> u64 {
        1_800_000_000_000 + self.round * 60_000
    }

    pub fn step(self, task: usize, number: u64) -> Step {
        Step::of(self.seed, task, self.round * 1_000_000 + number, self.now())
    }

    pub async fn open(self, path: &std::path::Path) -> kv_core::Result<SqliteStore> {
        let clock = Arc::new(ManualClock::at(moment(self.now())));
        SqliteStore::builder().path(path).sync(self.sync).clock(clock).open().await
    }
}

/// Prints a line in one system call, so that a kill leaves no partial line.
fn print_line(line: &str) {
    std::io::stdout().lock().write_all(format!("{line}\n").as_bytes()).unwrap();
}

/// The child: prints each step before the call and its result after the call. After half of the steps the child closes
/// the store and opens it again.
pub async fn run_child(run: Run) {
    let mut first = 0;
    for last in [run.steps / 2, run.steps] {
        let store = match run.open(&super::path()).await {
            Ok(store) => store,
            Err(error) => return print_line(&format!("unopened {:?}", error.kind())),
        };
        print_line("ready");
        let tasks: Vec<_> =
            (0..TASKS).map(|task| tokio::spawn(run_task(store.clone(), run, task, first..last))).collect();
        for task in tasks {
            task.await.unwrap();
        }
        let _ = store.close().await;
        first = last;
    }
}

async fn run_task(store: SqliteStore, run: Run, task: usize, numbers: std::ops::Range<u64>) {
    let mut errors = 0;
    for number in numbers {
        print_line(&format!("try {task} {number}"));
        match perform(&store, &run.step(task, number)).await {
            Ok(result) => {
                let versions: Vec<_> = result.versions.iter().map(ToString::to_string).collect();
                print_line(&format!("ack {task} {number} {} {}", result.outcome, versions.join(",")));
            }
            Err(error) => {
                assert_ne!(error.kind(), ErrorKind::Corrupt, "{error:?}");
                print_line(&format!(
                    "{} {task} {number}",
                    if error.maybe_applied() { "indeterminate" } else { "failed" }
                ));
                errors += 1;
                if errors == MAX_ERRORS {
                    return;
                }
            }
        }
    }
}

/// The possible states of one task.
#[derive(Debug, Clone)]
struct Task {
    /// The states that are possible after the child's lines.
    possible: Vec<State>,
    /// The earlier states that are possible after a loss of power. Empty if each commit is synced.
    earlier: Vec<State>,
    /// The number of the step that has no result yet.
    pending: Option<u64>,
    last_line: String,
}

/// The possible states of the store, computed from the lines that the children printed.
#[derive(Debug, Clone)]
pub struct Expected {
    tasks: Vec<Task>,
    versions: HashSet<String>,
    pub acknowledged: usize,
    pub errors: usize,
}

impl Expected {
    pub fn new() -> Self {
        let task =
            Task { possible: vec![State::new()], earlier: Vec::new(), pending: None, last_line: "no line".into() };
        Self { tasks: vec![task; TASKS], versions: HashSet::new(), acknowledged: 0, errors: 0 }
    }

    /// Applies a line of the child. Panics if the model does not have the outcome in the line.
    pub fn apply_line(&mut self, run: Run, line: &str) {
        let mut words = line.split(' ');
        let word = words.next().unwrap();
        if ["ready", "unopened"].contains(&word) {
            return;
        }
        let index: usize = words.next().unwrap().parse().unwrap();
        let number: u64 = words.next().unwrap().parse().unwrap();
        let (step, task) = (run.step(index, number), &mut self.tasks[index]);
        task.last_line = format!("{line}: {step:.200?}");
        match word {
            "try" => task.pending = Some(number),
            "ack" => {
                task.pending = None;
                self.acknowledged += 1;
                let outcome = words.next().unwrap();
                let versions: Vec<&str> = words.next().unwrap().split(',').filter(|word| !word.is_empty()).collect();
                let (mut after, mut between) = (Vec::new(), Vec::new());
                for state in &task.possible {
                    let plan = plan(state, &step, run.now());
                    if plan.outcome != outcome {
                        continue;
                    }
                    assert_eq!(plan.written.len(), versions.len(), "{run:?}: {}", task.last_line);
                    let mut parts = plan.after;
                    let mut state = parts.pop().unwrap();
                    between.extend(parts);
                    for (key, version) in plan.written.iter().zip(&versions) {
                        if let Some(known) = state.get_mut(key) {
                            known.version = Some((*version).to_owned());
                        }
                    }
                    after.push(state);
                }
                assert!(
                    !after.is_empty(),
                    "{run:?}: {} has an outcome that the model does not have\n{}",
                    task.last_line,
                    { task.possible.iter().map(describe).collect::<String>() }
                );
                for version in versions {
                    assert!(self.versions.insert(version.to_owned()), "{run:?}: {version} was used before");
                }
                let before = std::mem::replace(&mut task.possible, after);
                if run.sync == SyncMode::LosesOnPowerCut {
                    task.earlier.extend(before.into_iter().chain(between));
                    if matches!(step, Step::Flush) {
                        task.earlier.clear();
                    }
                }
            }
            // Nothing was applied.
            "failed" => {
                task.pending = None;
                self.errors += 1;
                if matches!(step, Step::SetMany(_) | Step::DeleteMany(_) | Step::Clear(_)) {
                    // The error is the error of the first failed part. Other parts may have been applied.
                    task.maybe_applied(&step, run.now());
                }
            }
            "indeterminate" => {
                task.pending = None;
                self.errors += 1;
                task.maybe_applied(&step, run.now());
            }
            _ => panic!("an unknown line: {line}"),
        }
    }

    /// Checks that the store has a possible state. This state is the only possible state from then on. Returns true if
    /// the store has an earlier state. An earlier state is allowed after a loss of power if the commits are not synced.
    pub async fn check(&mut self, run: Run, store: &SqliteStore, is_power_cut: bool) -> bool {
        let mut has_lost = false;
        // Checks the structure of the file, the index of deadlines against the table, and every checksum.
        let verification = store.verify().await.unwrap();
        assert!(verification.is_sound(), "{run:?}: {verification:?}");
        for (index, (task, found)) in self.tasks.iter_mut().zip(read_states(store, TASKS).await).enumerate() {
            if let Some(number) = task.pending.take() {
                task.maybe_applied(&run.step(index, number), run.now());
            }
            let is_any_of = |states: &[State]| states.iter().any(|state| is_same(state, &found, run.now()));
            let is_behind = !is_any_of(&task.possible);
            has_lost |= is_behind;
            assert!(
                !is_behind || is_power_cut && is_any_of(&task.earlier),
                "{run:?}, task {index}: after {} the store should have {}\nbut has {}",
                task.last_line,
                describe(&task.possible[0]),
                describe(&found)
            );
            task.possible = vec![found];
            task.earlier.clear();
        }
        has_lost
    }
}

impl Task {
    /// Adds the states that are possible if a step may have been applied. If the step is not atomic, these are the
    /// states after any of its parts. The items of a multi-key write are independent: an item may be applied although
    /// an earlier item is not.
    fn maybe_applied(&mut self, step: &Step, now: u64) {
        let parts: Vec<Step> = match step {
            Step::SetMany(items) => {
                items.iter().map(|item| Step::Set(Item { when: Condition::Always, ..item.clone() })).collect()
            }
            Step::DeleteMany(keys) => {
                keys.iter().map(|key| Step::Delete { key: key.clone(), when: Condition::Always }).collect()
            }
            whole => vec![whole.clone()],
        };
        for part in parts {
            let after: Vec<State> = self.possible.iter().flat_map(|state| plan(state, &part, now).after).collect();
            for state in after {
                if !self.possible.contains(&state) {
                    self.possible.push(state);
                }
            }
        }
    }
}
