//! The store beside the raw driver, in one run and in turns, as ratios: `cargo bench -p kv-sqlite`.
//!
//! An argument filters by name: `get`, `list`, `set`. Both sides have the same settings, keys and values, and both sync each
//! commit. Raw rows have a key and a value; the store's have a version, a deadline and checks beside them. Raw rows are in the
//! tree of the keys where they are small, and outside where they are large, whichever is the better for SQLite.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a benchmark that fails has no figure")]
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the system's clock")]
#![allow(clippy::cast_precision_loss, reason = "a rate is not exact")]

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kv_core::{Key, KvStore, ListQuery, SetItem, SetOptions, Version};
use kv_sqlite::SqliteStore;
use kv_sqlite::rusqlite::{Connection, params};
use tokio::runtime::Runtime;

const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_millis(600);

fn main() {
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for (entries, bytes) in [(10_000, 100), (1_000_000, 100), (100_000, 1_000)] {
        if ["get", "list", "set"].iter().any(|name| name.contains(&filter)) {
            let folder = tempfile::tempdir().unwrap();
            let both = Both::new(&runtime, folder.path(), entries, bytes);
            both.run(&runtime, &filter);
        }
    }
}

/// One side of a comparison: does some operations for about a round, and says how many.
type Side<'s> = (String, Box<dyn FnMut() -> usize + 's>);

/// Runs the sides in turns and prints their rates, and how each compares with the first.
fn compare(what: &str, mut sides: Vec<Side<'_>>) {
    let mut rates = vec![Vec::new(); sides.len()];
    for round in 0..=ROUNDS {
        for (place, (_, side)) in sides.iter_mut().enumerate() {
            let started = Instant::now();
            let count = side();
            // The first round warms up.
            if round > 0 {
                rates[place].push(count as f64 / started.elapsed().as_secs_f64());
            }
        }
    }
    println!("{what}");
    let base = median(&rates[0]);
    for ((name, _), rates) in sides.iter().zip(&rates) {
        let (least, most) = rates.iter().fold((f64::MAX, 0.0_f64), |(l, m), rate| (l.min(*rate), m.max(*rate)));
        let rate = median(rates);
        println!("  {name:<42} {rate:>10.0}/s  ({least:.0}–{most:.0})  {:>5.2} x", rate / base);
    }
}

fn median(rates: &[f64]) -> f64 {
    let mut rates = rates.to_vec();
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

struct Both {
    keys: Arc<Vec<Key>>,
    bytes: usize,
    store: Arc<dyn KvStore>,
    raw: Connection,
}

const RAW_GET: &str = "SELECT value FROM raw WHERE key = ?1";
const RAW_SET: &str = "INSERT INTO raw VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = ?2";
const RAW_LIST: &str = "SELECT key, value FROM raw WHERE key >= ?1 ORDER BY key LIMIT 100";

impl Both {
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
        raw.execute_batch("COMMIT; PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
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

    fn run(&self, runtime: &Runtime, filter: &str) {
        let what = format!("{} entries of {} bytes", self.keys.len(), self.bytes);
        if "get".contains(filter) {
            compare(&format!("get, one thread, {what}"), vec![self.raw_get(), self.store_get(runtime)]);
        }
        if "list".contains(filter) {
            compare(&format!("list of 100, {what}"), vec![self.raw_list(), self.store_list(runtime)]);
        }
        if "set".contains(filter) {
            let mut sides = vec![self.raw_set(64), self.raw_set(1)];
            sides.extend([1, 16, 64].map(|tasks| self.store_set(runtime, tasks)));
            compare(&format!("durable set over {what}"), sides);
        }
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

    /// One thread that commits batches: more than a program that writes from many tasks ever has.
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
        let mut turn = 0;
        let side = move || {
            turn += 1;
            runtime.block_on(async {
                let running: Vec<_> = (0..tasks)
                    .map(|task| {
                        let (store, keys, bytes) = (Arc::clone(&self.store), Arc::clone(&self.keys), self.bytes);
                        let mut next = (turn * 104_729 + task * 15_485_863) % keys.len();
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

/// Repeats until the round is over, and says how often.
fn until_round_ends(mut operation: impl FnMut()) -> usize {
    let started = Instant::now();
    let mut count = 0;
    while started.elapsed() < ROUND {
        operation();
        count += 1;
    }
    count
}

/// Numbers in an order that is not that of their keys.
fn scattered(number: usize) -> String {
    format!("{:08x}", u32::try_from(number).unwrap().wrapping_mul(2_654_435_761))
}

/// Random bytes: equal values would make pages that do not change.
fn value(bytes: usize) -> Bytes {
    let mut value = Vec::with_capacity(bytes + 16);
    while value.len() < bytes {
        value.extend_from_slice(Version::random().as_bytes());
    }
    value.truncate(bytes);
    value.into()
}
