//! A process that lives through a history and says so, and what its lines tell who checks it.

use std::collections::HashSet;
use std::io::Write;
use std::sync::Arc;

use kv_core::{ErrorKind, KvStore, ManualClock};
use kv_sqlite::{SqliteStore, SyncMode};

use super::model::{State, found, is_same, moment, plan, told};
use super::step::{Condition, Item, Step, perform};

/// Each task owns its keys, so that the order of what happens to a key is the order of its lines.
pub const TASKS: usize = 4;

/// How many errors a task takes before it ends.
const MAX_ERRORS: u32 = 3;

/// Which part of which history a child lives through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    pub seed: u64,
    pub round: u64,
    /// How many steps each task takes.
    pub steps: u64,
    pub sync: SyncMode,
}

impl Life {
    pub fn to_name(self) -> String {
        let Self { seed, round, steps, sync } = self;
        format!("{seed} {round} {steps} {}", sync == SyncMode::EveryCommit)
    }

    pub fn from_name(name: &str) -> Self {
        let words: Vec<&str> = name.split(' ').collect();
        let number = |place: usize| words[place].parse().unwrap();
        let sync = if words[3] == "true" { SyncMode::EveryCommit } else { SyncMode::LosesOnPowerCut };
        Self { seed: number(0), round: number(1), steps: number(2), sync }
    }

    /// The time at which this round happens: what has half a minute to live is gone in the next one.
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

/// One line, in one call to the system, so that none is torn.
fn say(line: &str) {
    std::io::stdout().lock().write_all(format!("{line}\n").as_bytes()).unwrap();
}

/// The child: says what it tries, does it, and says what came of it. In the middle it closes the store and opens it again.
pub async fn live(life: Life) {
    let mut first = 0;
    for last in [life.steps / 2, life.steps] {
        let store = match life.open(&super::path()).await {
            Ok(store) => store,
            Err(error) => return say(&format!("closed {:?}", error.kind())),
        };
        say("ready");
        let tasks: Vec<_> =
            (0..TASKS).map(|task| tokio::spawn(task_of_child(store.clone(), life, task, first..last))).collect();
        for task in tasks {
            task.await.unwrap();
        }
        let _ = store.close().await;
        first = last;
    }
}

async fn task_of_child(store: SqliteStore, life: Life, task: usize, numbers: std::ops::Range<u64>) {
    let mut errors = 0;
    for number in numbers {
        say(&format!("try {task} {number}"));
        match perform(&store, &life.step(task, number)).await {
            Ok(given) => {
                let versions: Vec<_> = given.versions.iter().map(ToString::to_string).collect();
                say(&format!("ack {task} {number} {} {}", given.outcome, versions.join(",")));
            }
            Err(error) => {
                assert_ne!(error.kind(), ErrorKind::Corrupt, "{error:?}");
                say(&format!("{} {task} {number}", if error.maybe_applied() { "doubt" } else { "err" }));
                errors += 1;
                if errors == MAX_ERRORS {
                    return;
                }
            }
        }
    }
}

/// What may be there of one task.
#[derive(Debug, Clone)]
struct Task {
    /// The states that the last line leaves possible.
    possible: Vec<State>,
    /// Those that a loss of power may bring back; where each commit is synced, none.
    before: Vec<State>,
    tried: Option<u64>,
    last: String,
}

/// What a child's lines say must be there.
#[derive(Debug, Clone)]
pub struct Account {
    tasks: Vec<Task>,
    versions: HashSet<String>,
    pub acknowledged: usize,
    pub errors: usize,
}

impl Account {
    pub fn new() -> Self {
        let task =
            Task { possible: vec![State::new()], before: Vec::new(), tried: None, last: "nothing was said".into() };
        Self { tasks: vec![task; TASKS], versions: HashSet::new(), acknowledged: 0, errors: 0 }
    }

    /// Takes a line into account: an outcome that is not the model's is a failure.
    pub fn hear(&mut self, life: Life, said: &str) {
        let mut words = said.split(' ');
        let word = words.next().unwrap();
        if ["ready", "closed"].contains(&word) {
            return;
        }
        let index: usize = words.next().unwrap().parse().unwrap();
        let number: u64 = words.next().unwrap().parse().unwrap();
        let (step, task) = (life.step(index, number), &mut self.tasks[index]);
        task.last = format!("{said}: {step:.200?}");
        match word {
            "try" => task.tried = Some(number),
            "ack" => {
                task.tried = None;
                self.acknowledged += 1;
                let outcome = words.next().unwrap();
                let versions: Vec<&str> = words.next().unwrap().split(',').filter(|word| !word.is_empty()).collect();
                let (mut after, mut between) = (Vec::new(), Vec::new());
                for state in &task.possible {
                    let plan = plan(state, &step, life.now());
                    if plan.outcome != outcome {
                        continue;
                    }
                    assert_eq!(plan.written.len(), versions.len(), "{life:?}: {}", task.last);
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
                assert!(!after.is_empty(), "{life:?}: {} should give another outcome\n{}", task.last, {
                    task.possible.iter().map(told).collect::<String>()
                });
                for version in versions {
                    assert!(self.versions.insert(version.to_owned()), "{life:?}: {version} was given before");
                }
                let before = std::mem::replace(&mut task.possible, after);
                if life.sync == SyncMode::LosesOnPowerCut {
                    task.before.extend(before.into_iter().chain(between));
                    if matches!(step, Step::Flush) {
                        task.before.clear();
                    }
                }
            }
            // Nothing happened.
            "err" => {
                task.tried = None;
                self.errors += 1;
                if matches!(step, Step::SetMany(_) | Step::DeleteMany(_) | Step::Clear(_)) {
                    // It is told of the first part that failed.
                    task.doubt(&step, life.now());
                }
            }
            "doubt" => {
                task.tried = None;
                self.errors += 1;
                task.doubt(&step, life.now());
            }
            _ => panic!("a line that is none: {said}"),
        }
    }

    /// Compares the store with what may be there, and goes on from what is. `is_power_cut` lets it be an earlier state,
    /// where a commit is not synced. Tells whether it was one.
    pub async fn check(&mut self, life: Life, store: &SqliteStore, is_power_cut: bool) -> bool {
        // The structure of the file, the index of deadlines against the table, and every checksum.
        let mut has_lost = false;
        let verification = store.verify().await.unwrap();
        assert!(verification.is_sound(), "{life:?}: {verification:?}");
        for (index, (task, found)) in self.tasks.iter_mut().zip(found(store, TASKS).await).enumerate() {
            if let Some(number) = task.tried.take() {
                task.doubt(&life.step(index, number), life.now());
            }
            let is_there = |states: &[State]| states.iter().any(|state| is_same(state, &found, life.now()));
            let is_behind = !is_there(&task.possible);
            has_lost |= is_behind;
            assert!(
                !is_behind || is_power_cut && is_there(&task.before),
                "{life:?}, task {index}: after {} there should be {}\nand there is {}",
                task.last,
                told(&task.possible[0]),
                told(&found)
            );
            task.possible = vec![found];
            task.before.clear();
        }
        has_lost
    }
}

impl Task {
    /// The step may have happened, wholly or, where it is not atomic, in part. Of several writes at once each is for itself: one
    /// that was lost with its batch does not keep the next ones from being there.
    fn doubt(&mut self, step: &Step, now: u64) {
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
