//! Compares the store with SQLite through the raw driver, in alternating rounds: `cargo bench -p anykv-sqlite`.
//!
//! Arguments select measurements by operation and size, for example `set 10000x100`. The operations are `get`, `list`,
//! `set`, `files` and `syncs`. The sizes are 10000x100, 1000000x100 and 100000x1000, in entries and bytes per value.
//!
//! Both sides have the same settings, keys and values, and sync each commit. Raw rows have a key and a value; the
//! store's rows also have a version, a deadline and two checksums. The raw table is `WITHOUT ROWID` for small values
//! and has rowids for large values, because these are the faster layouts.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a benchmark may panic")]
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the system's clock")]
#![allow(clippy::cast_precision_loss, reason = "a rate is not exact")]

use std::hint::black_box;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kv_core::{Key, KvStore, ListQuery, SetItem, SetOptions, Version};
use kv_sqlite::SqliteStore;
use kv_sqlite::rusqlite::{Connection, params};
use tokio::runtime::Runtime;

/// The number of measured rounds.
const ROUNDS: usize = 15;

/// The duration of a round.
const ROUND: Duration = Duration::from_millis(250);

/// The environment variable with the number of writing tasks of a child. If the variable is set, this program is the
/// child whose syncs `strace` counts, and only writes.
const TASKS: &str = "KV_SQLITE_BENCH_TASKS";

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    if let Ok(tasks) = std::env::var(TASKS) {
        return write_counted(&runtime, tasks.parse().unwrap());
    }
    let words: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let is_selected = |name: &str| words.iter().all(|word| name.split(' ').any(|part| part == word));
    for (entries, bytes) in [(10_000, 100), (1_000_000, 100), (100_000, 1_000)] {
        let name = |operation: &str| format!("{operation} {entries}x{bytes}");
        if ["get", "list", "set", "files"].iter().any(|operation| is_selected(&name(operation))) {
            let folder = tempfile::tempdir().unwrap();
            let comparison = Comparison::new(&runtime, folder.path(), entries, bytes);
            comparison.run(&runtime, |operation| is_selected(&name(operation)));
            if is_selected(&name("files")) {
                comparison.files(&runtime, folder.path());
            }
        }
    }
    if is_selected("syncs 10000x100") {
        for tasks in [1, 16, 64] {
            count_syncs(tasks);
        }
    }
}

/// The total number of writes of a child whose syncs are counted.
const COUNTED: usize = 6_400;

/// The child: writes from the given number of tasks.
fn write_counted(runtime: &Runtime, tasks: usize) {
    let folder = tempfile::tempdir().unwrap();
    runtime.block_on(async {
        let store = SqliteStore::open(folder.path().join("store.sqlite")).await.unwrap();
        let writers: Vec<_> = (0..tasks)
            .map(|task| {
                let store = store.clone();
                tokio::spawn(async move {
                    for number in 0..COUNTED / tasks {
                        let key = Key::new(["entries", &scattered(task * COUNTED + number), "value"]).unwrap();
                        let _ = store.set(&key, value(100), &SetOptions::default()).await.unwrap();
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.await.unwrap();
        }
        store.close().await.unwrap();
    });
}

/// Runs a child that writes, and prints the number of syncs that `strace` has counted in the child.
fn count_syncs(tasks: usize) {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("calls");
    let mut command = Command::new("strace");
    command.args(["-f", "-c", "--seccomp-bpf", "-e", "trace=fsync,fdatasync", "-o"]).arg(&output);
    let status = command.arg(std::env::current_exe().unwrap()).env(TASKS, tasks.to_string()).status();
    if !status.is_ok_and(|status| status.success()) {
        println!("NOT RUN: `strace` is not installed or has no permission to trace");
        return;
    }
    let table = std::fs::read_to_string(&output).unwrap();
    let calls = table.lines().filter(|line| line.ends_with("sync")).filter_map(|line| line.split_whitespace().nth(3));
    let calls: usize = calls.map(|calls| calls.parse::<usize>().unwrap()).sum();
    println!(
        "{tasks} tasks: {:.3} syncs per write, including those of opening and closing",
        calls as f64 / COUNTED as f64
    );
}

/// One side of a comparison: its name, and a function that runs operations for one round and returns their number.
type Side<'s> = (String, Box<dyn FnMut() -> usize + 's>);

/// Runs the sides alternately, and prints the rate of each side and the ratio to the rate of the first side.
fn compare(title: &str, mut sides: Vec<Side<'_>>) {
    let mut rates = vec![Vec::new(); sides.len()];
    for round in 0..=ROUNDS {
        for (index, (_, side)) in sides.iter_mut().enumerate() {
            let started = Instant::now();
            let count = side();
            // The first round warms up.
            if round > 0 {
                rates[index].push(count as f64 / started.elapsed().as_secs_f64());
            }
        }
    }
    println!("{title}");
    let first = rates[0].clone();
    for ((name, _), rates) in sides.iter().zip(&rates) {
        let (min, max) = rates.iter().fold((f64::MAX, 0.0_f64), |(l, m), rate| (l.min(*rate), m.max(*rate)));
        // The ratio is computed per round, because the other load on the machine changes more slowly than the rounds.
        let ratios: Vec<f64> = rates.iter().zip(&first).map(|(rate, first)| rate / first).collect();
        let (rate, ratio) = (median(rates), median(&ratios));
        println!("  {name:<42} {rate:>10.0}/s  ({min:.0}–{max:.0})  {ratio:>5.2} x");
    }
}

fn median(rates: &[f64]) -> f64 {
    let mut rates = rates.to_vec();
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

struct Comparison {
    keys: Arc<Vec<Key>>,
    bytes: usize,
    store: Arc<dyn KvStore>,
    raw: Connection,
}

const RAW_GET: &str = "SELECT value FROM raw WHERE key = ?1";
const RAW_SET: &str = "INSERT INTO raw VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = ?2";
const RAW_LIST: &str = "SELECT key, value FROM raw WHERE key >= ?1 ORDER BY key LIMIT 100";

impl Comparison {
    fn new(runtime: &Runtime, folder: &Path, entries: usize, bytes: usize) -> Self {
        let clustered = if bytes < 500 { "WITHOUT ROWID" } else { "" };
        let keys: Vec<Key> =
            (0..entries).map(|number| Key::new(["entries", &scattered(number), "value"]).unwrap()).collect();
        let raw = Connection::open(folder.join("raw.sqlite")).unwrap();
        raw.execute_batch(&format!(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -16384;
             CREATE TABLE raw (key TEXT NOT NULL PRIMARY KEY, value BLOB NOT NULL) {clustered}"
        ))
        .unwrap();
        raw.execute_batch("BEGIN").unwrap();
        for key in &keys {
            raw.prepare_cached(RAW_SET).unwrap().execute(params![key.as_str(), &value(bytes)[..]]).unwrap();
        }
        raw.execute_batch("COMMIT").unwrap();
        let store: Arc<dyn KvStore> = runtime.block_on(async {
            let store = SqliteStore::open(folder.join("store.sqlite")).await.unwrap();
            for keys in keys.chunks(1_000) {
                let items: Vec<_> = keys.iter().map(|key| SetItem::new(key.clone(), value(bytes))).collect();
                assert!(store.set_many(&items).await.iter().all(Result::is_ok));
            }
            Arc::new(store)
        });
        Self { keys: Arc::new(keys), bytes, store, raw }
    }

    fn run(&self, runtime: &Runtime, is_selected: impl Fn(&str) -> bool) {
        let size = format!("{} entries of {} bytes", self.keys.len(), self.bytes);
        if is_selected("get") {
            compare(&format!("get, one thread, {size}"), vec![self.raw_get(), self.store_get(runtime)]);
        }
        if is_selected("list") {
            compare(&format!("list of 100, {size}"), vec![self.raw_list(), self.store_list(runtime)]);
        }
        if is_selected("set") {
            for tasks in [1, 16, 64] {
                let sides = vec![self.raw_set(tasks), self.store_set(runtime, tasks)];
                compare(&format!("durable set, {size}"), sides);
            }
        }
    }

    /// Measures the sizes of the files, and the times to open and to verify the store.
    fn files(self, runtime: &Runtime, folder: &Path) {
        let Self { keys, bytes, store, raw } = self;
        runtime.block_on(store.close()).unwrap();
        drop((store, raw));
        let size = |name: &str| folder.join(name).metadata().unwrap().len() as f64 / 1e6;
        let payload = keys.iter().map(|key| key.as_str().len() + bytes).sum::<usize>() as f64 / 1e6;
        println!("{} entries of {bytes} bytes, keys and values {payload:.0} MB", keys.len());
        println!("  files: raw {:.0} MB, store {:.0} MB", size("raw.sqlite"), size("store.sqlite"));
        let (mut opened, mut checked) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            runtime.block_on(async {
                let started = Instant::now();
                let store = SqliteStore::open(folder.join("store.sqlite")).await.unwrap();
                assert!(store.get(&keys[0]).await.unwrap().is_some());
                opened.push(started.elapsed().as_secs_f64());
                if checked.len() < 3 {
                    let started = Instant::now();
                    assert!(store.verify().await.unwrap().is_sound());
                    checked.push(started.elapsed().as_secs_f64());
                }
                store.close().await.unwrap();
            });
        }
        println!("  opening again and one get {:.1} ms, verify {:.2} s", median(&opened) * 1e3, median(&checked));
    }

    fn raw_get(&self) -> Side<'_> {
        let mut next = 0;
        let side = move || {
            until_round_ends(|| {
                next = (next + 7_919) % self.keys.len();
                let mut statement = self.raw.prepare_cached(RAW_GET).unwrap();
                let value = statement.query_row([self.keys[next].as_str()], |row| {
                    Ok(Bytes::copy_from_slice(row.get_ref(0)?.as_bytes()?))
                });
                black_box(value.unwrap());
            })
        };
        ("raw driver, inline".into(), Box::new(side))
    }

    fn store_get<'s>(&'s self, runtime: &'s Runtime) -> Side<'s> {
        let mut next = 0;
        let side = move || {
            runtime.block_on(async {
                let started = Instant::now();
                let mut count = 0;
                while count % 64 != 0 || started.elapsed() < ROUND {
                    next = (next + 7_919) % self.keys.len();
                    black_box(self.store.get(&self.keys[next]).await.unwrap().unwrap());
                    count += 1;
                }
                count
            })
        };
        ("store".into(), Box::new(side))
    }

    fn raw_list(&self) -> Side<'_> {
        let mut next = 0;
        let side = move || {
            until_round_ends(|| {
                next = (next + 7_919) % self.keys.len();
                let mut statement = self.raw.prepare_cached(RAW_LIST).unwrap();
                let rows = statement.query_map([self.keys[next].as_str()], |row| {
                    let key = Key::parse(row.get_ref(0)?.as_str()?).unwrap();
                    Ok((key, Bytes::copy_from_slice(row.get_ref(1)?.as_bytes()?)))
                });
                black_box(rows.unwrap().collect::<Result<Vec<_>, _>>().unwrap());
            })
        };
        ("raw driver, inline".into(), Box::new(side))
    }

    fn store_list<'s>(&'s self, runtime: &'s Runtime) -> Side<'s> {
        let mut next = 0;
        let side = move || {
            until_round_ends(|| {
                next = (next + 7_919) % self.keys.len();
                let query = ListQuery::default().with_after(self.keys[next].clone()).with_limit(100);
                black_box(runtime.block_on(self.store.list(&query)).unwrap());
            })
        };
        ("store".into(), Box::new(side))
    }

    /// One thread that commits full batches. This is an upper bound for a program that writes from many tasks.
    fn raw_set(&self, batch: usize) -> Side<'_> {
        let mut next = 0;
        let side = move || {
            let batches = until_round_ends(|| {
                self.raw.execute_batch("BEGIN IMMEDIATE").unwrap();
                for _ in 0..batch {
                    next = (next + 7_919) % self.keys.len();
                    let mut statement = self.raw.prepare_cached(RAW_SET).unwrap();
                    statement.execute(params![self.keys[next].as_str(), &value(self.bytes)[..]]).unwrap();
                }
                self.raw.execute_batch("COMMIT").unwrap();
            });
            batches * batch
        };
        (format!("raw driver, batches of {batch}"), Box::new(side))
    }

    fn store_set<'s>(&'s self, runtime: &'s Runtime, tasks: usize) -> Side<'s> {
        let mut round = 0;
        let side = move || {
            round += 1;
            runtime.block_on(async {
                let running: Vec<_> = (0..tasks)
                    .map(|task| {
                        let (store, keys, bytes) = (Arc::clone(&self.store), Arc::clone(&self.keys), self.bytes);
                        let mut next = (round * 104_729 + task * 15_485_863) % keys.len();
                        tokio::spawn(async move {
                            let started = Instant::now();
                            let mut count = 0;
                            while started.elapsed() < ROUND {
                                next = (next + 7_919) % keys.len();
                                let outcome = store.set(&keys[next], value(bytes), &SetOptions::default()).await;
                                assert!(outcome.unwrap().is_stored());
                                count += 1;
                            }
                            count
                        })
                    })
                    .collect();
                let mut count = 0;
                for task in running {
                    count += task.await.unwrap();
                }
                count
            })
        };
        (format!("store, {tasks} tasks"), Box::new(side))
    }
}

/// Repeats the operation until the round ends, and returns the number of repetitions.
fn until_round_ends(mut operation: impl FnMut()) -> usize {
    let started = Instant::now();
    let mut count = 0;
    while started.elapsed() < ROUND {
        operation();
        count += 1;
    }
    count
}

/// Returns a text for a number, so that consecutive numbers have texts that are far apart in the order of texts.
fn scattered(number: usize) -> String {
    format!("{:08x}", u32::try_from(number).unwrap().wrapping_mul(2_654_435_761))
}

/// Returns random bytes, because overwriting a value with an equal value would not change the page.
fn value(bytes: usize) -> Bytes {
    let mut value = Vec::with_capacity(bytes + 16);
    while value.len() < bytes {
        value.extend_from_slice(Version::random().as_bytes());
    }
    value.truncate(bytes);
    value.into()
}
