//! The child process that writes. The child prints each step before it runs the step, and again when the store has
//! acknowledged the step.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::Receiver;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use kv_core::{
    Clock, DeleteOptions, Expiry, Key, KvStore, NewExpiry, SetOptions, SetOutcome, SystemClock, Transaction, Version,
    When,
};
use kv_sled::{SledDurability, SledStore};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const FOLDER: &str = "KV_SLED_CRASH_FOLDER";
const DURABILITY: &str = "KV_SLED_CRASH_DURABILITY";
const ROUND: &str = "KV_SLED_CRASH_ROUND";
const SEED: &str = "KV_SLED_CRASH_SEED";
/// The environment variable with the number of steps of each task. If the variable is not set, the tasks run until the
/// child is killed.
pub(crate) const STEPS: &str = "KV_SLED_CRASH_STEPS";

/// The number of writing tasks. Each task has its own keys.
pub(crate) const TASKS: usize = 8;

/// A line that a child has printed. The lines of each task are in order.
#[derive(Debug, Clone)]
pub(crate) struct Report {
    pub(crate) task: usize,
    pub(crate) step: u64,
    pub(crate) is_acknowledged: bool,
    /// The time of the acknowledgement, in milliseconds since the Unix epoch.
    pub(crate) at_millis: u64,
    pub(crate) version: Option<Version>,
}

/// A running child.
pub(crate) struct Child {
    process: std::process::Child,
    reader: std::thread::JoinHandle<(Vec<Report>, Vec<SystemTime>)>,
    is_open: Receiver<()>,
}

/// The circumstances in which a child was killed.
pub(crate) struct Killed {
    pub(crate) at: SystemTime,
    /// The longest time for which the machine did not run the child. A child can exceed the interval by this time,
    /// because a child that does not run cannot flush.
    pub(crate) stalled: Duration,
}

impl Child {
    pub(crate) fn start(path: &Path, durability: SledDurability, seed: u64, round: usize) -> Self {
        let child = Self::spawn(Command::new(std::env::current_exe().unwrap()), path, durability, seed, round);
        // Wait until the store is open, so that the caller kills the child while it writes. In every tenth round, do
        // not wait, so that the child may be killed while it opens the store.
        if !round.is_multiple_of(10) {
            child.is_open.recv_timeout(Duration::from_secs(20)).expect("the child does not open the store");
        }
        child
    }

    /// Starts a child by a command that may wrap the test program.
    pub(crate) fn spawn(
        mut command: Command,
        path: &Path,
        durability: SledDurability,
        seed: u64,
        round: usize,
    ) -> Self {
        let mut process = command
            .args(["--exact", "child_that_writes", "--nocapture"])
            .env(FOLDER, path)
            .env(DURABILITY, durability.to_string())
            .env(SEED, seed.to_string())
            .env(ROUND, round.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let (opened, is_open) = std::sync::mpsc::channel();
        let reader = std::thread::spawn(move || {
            let (mut reports, mut ticks) = (Vec::new(), Vec::new());
            for line in output.split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                if line.ends_with("OPEN") {
                    let _ = opened.send(());
                }
                reports.extend(parse(&line));
                ticks.extend(parse_tick(&line));
            }
            (reports, ticks)
        });
        Self { process, reader, is_open }
    }

    /// Waits until the child has ended by itself.
    pub(crate) async fn end_within(&mut self, limit: Duration) {
        let until = SystemClock.now() + limit;
        while self.process.try_wait().unwrap().is_none() {
            assert!(SystemClock.now() < until, "the child does not end");
            SystemClock.sleep(Duration::from_millis(10)).await;
        }
    }

    /// Kills the child by SIGKILL and returns its reports.
    pub(crate) fn kill(mut self) -> (Vec<Report>, Killed) {
        let at = SystemClock.now();
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        let (reports, mut ticks) = self.reader.join().unwrap();
        ticks.push(at);
        let gaps = ticks.windows(2).filter_map(|pair| pair[1].duration_since(pair[0]).ok());
        let stalled = gaps.max().unwrap_or_default();
        (reports, Killed { at, stalled })
    }
}

/// Parses `><task> <step> try;` or `><task> <step> ack <millis> <version or ->;`. A line without the semicolon is
/// incomplete and ignored.
fn parse(line: &str) -> Option<Report> {
    let mut words = line.strip_prefix('>')?.strip_suffix(';')?.split(' ');
    let (task, step) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let is_acknowledged = words.next()? == "ack";
    let at_millis = words.next().and_then(|millis| millis.parse().ok()).unwrap_or(0);
    let version = words.next().and_then(|version| version.parse().ok());
    Some(Report { task, step, is_acknowledged, at_millis, version })
}

/// Parses `>tick <millis>;`.
fn parse_tick(line: &str) -> Option<SystemTime> {
    let millis = line.strip_prefix(">tick ")?.strip_suffix(';')?.parse().ok()?;
    Some(SystemTime::UNIX_EPOCH + Duration::from_millis(millis))
}

fn now_millis() -> u128 {
    SystemClock.now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis()
}

fn print(line: &str) {
    let mut output = std::io::stdout().lock();
    output.write_all(line.as_bytes()).and_then(|()| output.flush()).unwrap();
}

pub(crate) fn main() {
    let Ok(path) = std::env::var(FOLDER) else { return };
    let durability = std::env::var(DURABILITY).unwrap().parse().unwrap();
    let [seed, round] = [SEED, ROUND].map(|name| std::env::var(name).unwrap().parse::<u64>().unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async move {
        let store = SledStore::builder().durability(durability).open(path).await.unwrap();
        print("\nOPEN\n");
        tokio::spawn(async {
            loop {
                print(&format!(">tick {};\n", now_millis()));
                SystemClock.sleep(Duration::from_millis(5)).await;
            }
        });
        let tasks: Vec<_> = (0..TASKS).map(|task| tokio::spawn(write(store.clone(), seed, task, round))).collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
}

/// A step of a history. The child and the model derive the same steps from the seed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    Set {
        key: Key,
        value: Bytes,
        deadline_millis: Option<u64>,
    },
    SetIfAbsent {
        key: Key,
        value: Bytes,
    },
    Delete {
        key: Key,
    },
    Clear {
        prefix: Key,
    },
    Touch {
        key: Key,
        deadline_millis: u64,
    },
    /// Sets the same value under each of the keys, and deletes another key.
    Commit {
        keys: [Key; 3],
        value: Bytes,
        deleted: Key,
    },
    Increment {
        key: Key,
    },
}

/// The base of all deadlines, in milliseconds since the Unix epoch. This base is in the far future, so that no entry
/// expires and the model can compare the deadlines.
const FAR_MILLIS: u64 = 4_000_000_000_000;

impl Step {
    /// Returns the step of a task with this number. The seed determines the random steps.
    pub(crate) fn of(seed: u64, task: usize, number: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed ^ (task as u64) << 56 ^ number);
        let (kind, index): (u32, u32) = (random.random_range(0..20), random.random_range(0..7));
        let key = |name: &str| Key::new([&format!("t{task}"), name, &format!("{index}")]).unwrap();
        let value = Bytes::from(format!("{task}.{number}."));
        let deadline = FAR_MILLIS + number;
        match kind {
            0..4 => Self::Set { key: key("plain"), value, deadline_millis: None },
            4..7 => Self::Set { key: key("expiring"), value, deadline_millis: Some(deadline) },
            7 | 8 => Self::Delete { key: key("plain") },
            9 => Self::Touch { key: key("expiring"), deadline_millis: deadline },
            10..13 => Self::Commit { keys: ["a", "b", "c"].map(key), value, deleted: key("expiring") },
            13 | 14 => Self::Increment { key: key("counter") },
            15 | 16 => Self::SetIfAbsent { key: key("plain"), value },
            // Rare steps: a value that sled writes to a separate file, and a clear of many keys.
            17 if index == 0 => {
                Self::Set { key: key("large"), value: value.repeat(40_000).into(), deadline_millis: None }
            }
            18 if index == 1 => Self::Clear { prefix: Key::new([&format!("t{task}"), "plain"]).unwrap() },
            _ => Self::Set { key: key("plain"), value: value.repeat(200).into(), deadline_millis: Some(deadline) },
        }
    }
}

/// The number of the first step of a round. No two rounds have a step number in common.
pub(crate) fn first_step(round: u64) -> u64 {
    round * 1_000_000
}

async fn write(store: SledStore, seed: u64, task: usize, round: u64) {
    let steps = std::env::var(STEPS).map_or(u64::MAX >> 1, |steps| steps.parse().unwrap());
    for number in first_step(round)..first_step(round) + steps {
        print(&format!(">{task} {number} try;\n"));
        let version = perform(&store, Step::of(seed, task, number)).await;
        let millis = now_millis();
        let version = version.map_or("-".to_owned(), |version| version.to_string());
        print(&format!(">{task} {number} ack {millis} {version};\n"));
    }
}

async fn perform(store: &SledStore, step: Step) -> Option<Version> {
    let at = |millis: u64| SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
    match step {
        Step::Set { key, value, deadline_millis } => {
            let expiry = deadline_millis.map_or(Expiry::Never, |millis| Expiry::At(at(millis)));
            let outcome = store.set(&key, value, &SetOptions::default().with_expiry(expiry)).await.unwrap();
            let SetOutcome::Stored { version, .. } = outcome else { panic!("refused") };
            version
        }
        Step::SetIfAbsent { key, value } => {
            let outcome = store.set(&key, value, &SetOptions::default().with_when(When::Absent)).await.unwrap();
            outcome.version()
        }
        Step::Clear { prefix } => {
            store.clear(&prefix.into()).await.unwrap();
            None
        }
        Step::Delete { key } => {
            let _ = store.delete(&key, &DeleteOptions::default()).await.unwrap();
            None
        }
        Step::Touch { key, deadline_millis } => {
            store.touch(&key, NewExpiry::At(at(deadline_millis))).await.unwrap();
            None
        }
        Step::Commit { keys, value, deleted } => {
            let transaction = keys
                .into_iter()
                .fold(Transaction::new(), |transaction, key| transaction.set(key, value.clone(), Expiry::Never));
            assert!(store.commit(&transaction.delete(deleted)).await.unwrap().is_committed());
            None
        }
        Step::Increment { key } => {
            store.increment(&key, 1, &kv_core::IncrementOptions::default()).await.unwrap();
            None
        }
    }
}
