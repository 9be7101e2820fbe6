//! Kills of a writing child: every write that the child has reported as acknowledged must be in the store afterwards.
//!
//! `CRASH_ROUNDS` sets the number of kills, by default 30. All rounds use one file, so that each round opens
//! the result of earlier recoveries.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader, Write};
use std::process::ChildStdout;
use std::time::{Duration, SystemTime};

use kv_core::{
    Clock, DeleteOptions, Entry, Expires, Expiry, IncrementOptions, Key, KvStore, ListQuery, NewExpiry, SetOptions,
    SystemClock, Transaction, When,
};
use kv_sqlite::{SqliteStore, SyncMode};

mod support;
use support::{KillOnDrop, Random, block_on, child, test};

/// The number of tasks of the child. Only one task writes a key, so that the printed lines of the key are in the order
/// of its changes.
const TASKS: u64 = 8;

fn main() {
    support::main(
        |name| block_on(run_child(mode(name))),
        vec![
            test("acknowledged_writes_survive_kill_9_with_a_sync_per_commit", || rounds("every-commit")),
            test("acknowledged_writes_survive_kill_9_without_a_sync", || rounds("loses-on-power-cut")),
        ],
    );
}

fn mode(name: &str) -> SyncMode {
    if name == "every-commit" { SyncMode::EveryCommit } else { SyncMode::LosesOnPowerCut }
}

/// The child: prints each write before the call, and the acknowledgement after the call.
async fn run_child(sync: SyncMode) {
    let store = SqliteStore::builder().path(support::path()).sync(sync).open().await.unwrap();
    print_line("ready");
    let tasks: Vec<_> = (0..TASKS).map(|task| tokio::spawn(run_task(store.clone(), task))).collect();
    for task in tasks {
        task.await.unwrap();
    }
}

/// Prints a line in one system call, so that a kill leaves no partial line.
fn print_line(line: &str) {
    std::io::stdout().lock().write_all(format!("{line}\n").as_bytes()).unwrap();
}

async fn run_task(store: SqliteStore, task: u64) {
    let mut random = Random::new();
    let name = format!("t{task}");
    for round in 0.. {
        let key = Key::new([&name, &random.below(10).to_string()]).unwrap();
        let deadline = 3_600_000 + random.below(1_000_000);
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(millis_now() + deadline);
        let millis = millis_of(at);
        let value = format!("{round}-{}-{}", random.below(u64::MAX >> 12), "x".repeat(random.index(3_000)));
        match random.below(10) {
            0..3 => {
                print_line(&format!("try {task} set {key} {value} -"));
                let version = store.set(&key, value.into(), &SetOptions::default()).await.unwrap().version().unwrap();
                print_line(&format!("ack {task} {version}"));
            }
            3..5 => {
                print_line(&format!("try {task} set {key} {value} {millis}"));
                let options = SetOptions::default().with_expiry(Expiry::At(at));
                let version = store.set(&key, value.into(), &options).await.unwrap().version().unwrap();
                print_line(&format!("ack {task} {version}"));
            }
            5 => {
                print_line(&format!("try {task} delete {key}"));
                let _ = store.delete(&key, &DeleteOptions::default()).await.unwrap();
                print_line(&format!("ack {task} -"));
            }
            6 => {
                print_line(&format!("try {task} touch {key} {millis}"));
                store.touch(&key, NewExpiry::At(at)).await.unwrap();
                print_line(&format!("ack {task} -"));
            }
            7 => {
                let key = Key::new([&name, "count"]).unwrap();
                print_line(&format!("try {task} increment {key}"));
                let count = store.increment(&key, 1, &IncrementOptions::default()).await.unwrap();
                print_line(&format!("ack {task} {count}"));
            }
            _ => {
                let (left, right) = (Key::new([&name, "left"]).unwrap(), Key::new([&name, "right"]).unwrap());
                let current = store.get(&left).await.unwrap().and_then(|entry| entry.version);
                let when = current.map_or(When::Absent, When::Version);
                print_line(&format!("try {task} pair {left} {right} {value}"));
                let transaction = Transaction::new()
                    .check(left.clone(), when)
                    .set(left, value.clone(), Expiry::Never)
                    .set(right, value, Expiry::Never);
                assert!(store.commit(&transaction).await.unwrap().is_committed());
                print_line(&format!("ack {task} -"));
            }
        }
    }
}

fn millis_now() -> u64 {
    millis_of(SystemClock.now())
}

fn millis_of(moment: SystemTime) -> u64 {
    moment.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis().try_into().unwrap()
}

/// The known parts of an entry. The version is known from an acknowledgement or from the last check.
#[derive(Debug, Clone, PartialEq)]
struct Known {
    value: String,
    version: Option<String>,
    deadline: Option<u64>,
}

type Model = HashMap<String, Known>;

/// Applies the write in a printed line to the model. `ack` is the outcome if the write was acknowledged.
fn apply(model: &mut Model, tried: &str, ack: Option<&str>) {
    let words: Vec<&str> = tried.split(' ').collect();
    let version = || ack.filter(|ack| *ack != "-").map(str::to_owned);
    match words[..] {
        ["set", key, value, deadline] => {
            let known = Known { value: value.into(), version: version(), deadline: deadline.parse().ok() };
            model.insert(key.into(), known);
        }
        ["delete", key] => {
            model.remove(key);
        }
        ["touch", key, deadline] => {
            if let Some(known) = model.get_mut(key) {
                known.deadline = deadline.parse().ok();
            }
        }
        ["increment", key] => {
            let count = model.get(key).map_or(0, |known| known.value.parse::<i64>().unwrap()) + 1;
            if let Some(ack) = ack {
                assert_eq!(ack, count.to_string(), "the counter {key}");
            }
            model.insert(key.into(), Known { value: count.to_string(), version: None, deadline: None });
        }
        ["pair", left, right, value] => {
            for key in [left, right] {
                model.insert(key.into(), Known { value: value.into(), version: None, deadline: None });
            }
        }
        _ => panic!("an unknown line: {tried}"),
    }
}

fn rounds(mode: &str) {
    let rounds: u32 = std::env::var("CRASH_ROUNDS").map_or(30, |rounds| rounds.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("crash.sqlite");
    let (mut random, mut model, mut versions) = (Random::new(), Model::new(), HashSet::new());
    let mut acknowledged = 0;
    for round in 0..rounds {
        let mut running = KillOnDrop(child(mode, &path).spawn().unwrap());
        let mut lines = BufReader::new(running.0.stdout.take().unwrap());
        let mut ready = String::new();
        lines.read_line(&mut ready).unwrap();
        assert_eq!(ready.trim(), "ready", "round {round}");
        let reader = std::thread::spawn(move || read(lines));
        block_on(SystemClock.sleep(Duration::from_millis(5 + random.below(196))));
        running.0.kill().unwrap();
        running.0.wait().unwrap();
        let (done, pending) = reader.join().unwrap();
        acknowledged += done.len();
        for (tried, ack) in &done {
            if tried.starts_with("set ") {
                assert!(versions.insert(ack.clone()), "round {round}: the version {ack} was used before");
            }
            apply(&mut model, tried, Some(ack));
        }
        block_on(check(&path, &mut model, pending, round));
    }
    eprintln!("{mode}: {rounds} kills, {acknowledged} acknowledged writes, none lost");
    assert!(acknowledged > rounds as usize, "too few writes for a result");
}

/// Reads the writes and outcomes of the acknowledged writes, in the order of their acknowledgement, and the
/// unacknowledged write of each task.
fn read(lines: BufReader<ChildStdout>) -> (Vec<(String, String)>, Vec<String>) {
    let (mut tried, mut done) = (HashMap::new(), Vec::new());
    for line in lines.lines() {
        // Every line is complete, because each is printed in one system call.
        let line = line.unwrap();
        let (word, rest) = line.split_once(' ').unwrap();
        let (task, rest) = rest.split_once(' ').unwrap();
        match word {
            "try" => drop(tried.insert(task.to_owned(), rest.to_owned())),
            "ack" => done.push((tried.remove(task).unwrap(), rest.to_owned())),
            _ => panic!("an unknown line: {line}"),
        }
    }
    (done, tried.into_values().collect())
}

/// Checks that every key has the state after the acknowledged writes, or after the unacknowledged write of its task.
async fn check(path: &std::path::Path, model: &mut Model, pending: Vec<String>, round: u32) {
    let store = SqliteStore::open(path).await.unwrap();
    let verification = store.verify().await.unwrap();
    assert!(verification.is_sound(), "round {round}: {verification:?}");
    let mut found = HashMap::new();
    let mut query = ListQuery::default();
    loop {
        let page = store.list(&query).await.unwrap();
        found.extend(page.items.into_iter().map(|item| (item.key.to_string(), item.entry.unwrap())));
        match page.next {
            Some(next) => query = query.resume(next),
            None => break,
        }
    }
    for tried in pending {
        let mut after = model.clone();
        apply(&mut after, &tried, None);
        let keys: Vec<&str> = tried.split(' ').skip(1).take(if tried.starts_with("pair") { 2 } else { 1 }).collect();
        let is_state_of = |model: &Model| keys.iter().all(|key| is_same(model.get(*key), found.get(*key)));
        assert!(is_state_of(model) || is_state_of(&after), "round {round}: `{tried}` was partially applied");
        if is_state_of(&after) {
            *model = after;
        }
    }
    for key in model.keys().chain(found.keys()) {
        let (known, entry) = (model.get(key), found.get(key));
        assert!(is_same(known, entry), "round {round}: {key} should be {known:?} but is {entry:?}");
    }
    // Takes unknown versions from the store. A version is unknown if the write was not acknowledged or has no version
    // in its outcome.
    for (key, known) in model {
        known.version = found[key].version.map(|version| version.to_string());
    }
    store.close().await.unwrap();
}

fn is_same(known: Option<&Known>, entry: Option<&Entry>) -> bool {
    let (known, entry) = match (known, entry) {
        (None, None) => return true,
        (Some(known), Some(entry)) => (known, entry),
        _ => return false,
    };
    let deadline = match entry.expires {
        Expires::At(moment) => Some(millis_of(moment)),
        _ => None,
    };
    entry.value == known.value
        && deadline == known.deadline
        && known.version.as_ref().is_none_or(|version| Some(version) == entry.version.map(|v| v.to_string()).as_ref())
}
