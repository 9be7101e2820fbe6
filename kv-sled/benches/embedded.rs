//! Compares the store with raw sled: `cargo bench -p anykv-sled`. The results are ratios of rates, from alternating
//! rounds of one run.
//!
//! An argument selects a part: `get`, `list`, `set`, `power` or `space`. Both sides have the same keys, values and
//! settings of sled. A raw record is a key and a value. The store adds a header to each value, and the tree checksum to
//! each batch.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a benchmark fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "a benchmark measures with the system's clock")]
#![allow(clippy::cast_precision_loss, reason = "rates need no full precision")]

use std::fs::File;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kv_core::{Key, KvStore, ListQuery, SetItem, SetOptions, Version};
use kv_sled::{SledDurability, SledStore};
use tokio::runtime::Runtime;

/// The number of measured rounds of each side.
const ROUNDS: usize = 7;
/// The duration of a round.
const ROUND: Duration = Duration::from_millis(500);
const VALUE_BYTES: usize = 100;

fn main() {
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    let is_selected = |name: &str| name.contains(&filter);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for entries in [10_000, 1_000_000] {
        if ["get", "list", "set"].into_iter().any(is_selected) {
            let folder = tempfile::tempdir().unwrap();
            let pair = Pair::new(&runtime, folder.path(), entries, SledDurability::Process);
            if is_selected("get") {
                let sides = vec![pair.raw_get(), pair.store_get(&runtime)];
                compare(&format!("get, one thread, {entries} entries"), sides);
            }
            if is_selected("list") {
                let sides = vec![pair.raw_list(), pair.store_list(&runtime)];
                compare(&format!("list of 100, {entries} entries"), sides);
            }
            if is_selected("set") {
                let sides = pair.raw_sets(false);
                pair.compare_sets(&format!("set that survives kill -9, {entries} entries"), sides, &runtime);
            }
        }
    }
    if is_selected("power") {
        let folder = tempfile::tempdir().unwrap();
        let pair = Pair::new(&runtime, folder.path(), 10_000, SledDurability::Power);
        let sides = pair.raw_sets(true);
        pair.compare_sets("set with an fsync, 10000 entries", sides, &runtime);
    }
    if is_selected("space") {
        runtime.block_on(space());
    }
}

/// One side of a comparison: its name, and a function that runs one round and returns the number of operations.
type Side<'s> = (String, Box<dyn FnMut() -> usize + 's>);

/// Runs the sides in alternating rounds. Prints the rate of each side, and the ratio of this rate to the rate of the
/// first side.
fn compare(title: &str, mut sides: Vec<Side<'_>>) {
    let mut rates = vec![Vec::new(); sides.len()];
    for round in 0..=ROUNDS {
        for (position, (_, side)) in sides.iter_mut().enumerate() {
            let started = Instant::now();
            let count = side();
            // The first round warms up.
            if round > 0 {
                rates[position].push(count as f64 / started.elapsed().as_secs_f64());
            }
        }
    }
    println!("{title}");
    let base = median(&rates[0]);
    for ((name, _), rates) in sides.iter().zip(&rates) {
        let (min, max) = rates.iter().fold((f64::MAX, 0.0_f64), |(l, m), rate| (l.min(*rate), m.max(*rate)));
        let rate = median(rates);
        println!("  {name:<34} {rate:>9.0}/s  ({min:.0}–{max:.0})  {:>5.2} x", rate / base);
    }
}

fn median(rates: &[f64]) -> f64 {
    let mut rates = rates.to_vec();
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// The store and raw sled, filled with the same number of entries.
struct Pair {
    keys: Arc<Vec<Key>>,
    store: SledStore,
    raw: sled::Db,
    raw_log: File,
}

impl Pair {
    fn new(runtime: &Runtime, folder: &Path, entries: usize, durability: SledDurability) -> Self {
        let keys: Vec<Key> =
            (0..entries).map(|number| Key::new(["entries", &scattered(number), "value"]).unwrap()).collect();
        let settings = sled::Config::new().path(folder.join("raw")).cache_capacity(256 << 20);
        let raw = settings.flush_every_ms(Some(500)).open().unwrap();
        for key in &keys {
            raw.insert(key.as_str(), &value()[..]).unwrap();
        }
        raw.flush().unwrap();
        let store = runtime.block_on(async {
            let store = SledStore::builder().durability(durability).open(folder.join("store")).await.unwrap();
            for keys in keys.chunks(1_000) {
                let items: Vec<_> = keys.iter().map(|key| SetItem::new(key.clone(), value())).collect();
                assert!(store.set_many(&items).await.iter().all(Result::is_ok));
            }
            store
        });
        let raw_log = File::open(folder.join("raw").join("db")).unwrap();
        Self { keys: Arc::new(keys), store, raw, raw_log }
    }

    /// Compares sets by raw sled and by the store. Then prints the number of flushes and fsyncs per write.
    fn compare_sets<'s>(&'s self, title: &str, mut sides: Vec<Side<'s>>, runtime: &'s Runtime) {
        sides.extend([1, 16, 64].map(|tasks| self.store_set(runtime, tasks)));
        compare(title, sides);
        for tasks in [1, 16, 64] {
            let before = self.store.stats();
            self.store_set(runtime, tasks).1();
            let after = self.store.stats();
            let writes = (after.writes - before.writes) as f64;
            let per_write = |count: u64| count as f64 / writes;
            println!(
                "  {tasks} tasks: {:.3} flushes and {:.3} fsyncs per write",
                per_write(after.flushes - before.flushes),
                per_write(after.syncs - before.syncs)
            );
        }
    }

    fn raw_get(&self) -> Side<'_> {
        let mut next = 0;
        let side = move || {
            until_round_ends(|| {
                next = (next + 7_919) % self.keys.len();
                let value = self.raw.get(self.keys[next].as_str()).unwrap().unwrap();
                black_box(Bytes::copy_from_slice(&value));
            })
        };
        ("raw sled, inline".into(), Box::new(side))
    }

    fn store_get<'s>(&'s self, runtime: &'s Runtime) -> Side<'s> {
        let (mut next, store) = (0, Arc::new(self.store.clone()) as Arc<dyn KvStore>);
        let side = move || {
            runtime.block_on(async {
                let started = Instant::now();
                let mut count = 0;
                while count % 64 != 0 || started.elapsed() < ROUND {
                    next = (next + 7_919) % self.keys.len();
                    black_box(store.get(&self.keys[next]).await.unwrap().unwrap());
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
                let range = self.keys[next].as_str().as_bytes()..;
                let items: Vec<_> = self.raw.range(range).take(100).map(Result::unwrap).collect();
                black_box(items);
            })
        };
        ("raw sled, inline".into(), Box::new(side))
    }

    fn store_list<'s>(&'s self, runtime: &'s Runtime) -> Side<'s> {
        let mut next = 0;
        let side = move || {
            runtime.block_on(async {
                let started = Instant::now();
                let mut count = 0;
                while started.elapsed() < ROUND {
                    next = (next + 7_919) % self.keys.len();
                    let query = ListQuery::default().with_after(self.keys[next].clone()).with_limit(100);
                    black_box(self.store.list(&query).await.unwrap());
                    count += 1;
                }
                count
            })
        };
        ("store".into(), Box::new(side))
    }

    fn raw_sets(&self, is_synced: bool) -> Vec<Side<'_>> {
        let sizes = [64, 16, 1];
        let batches = sizes.map(|at_once| self.raw_batch(at_once, is_synced));
        batches.into_iter().chain(sizes.map(|at_once| self.raw_set(at_once, is_synced))).collect()
    }

    fn raw_set(&self, at_once: usize, is_synced: bool) -> Side<'_> {
        let mut next = 0;
        let side = move || {
            at_once
                * until_round_ends(|| {
                    for _ in 0..at_once {
                        next = (next + 7_919) % self.keys.len();
                        self.raw.insert(self.keys[next].as_str(), &value()[..]).unwrap();
                    }
                    self.raw.flush().unwrap();
                    if is_synced {
                        self.raw_log.sync_data().unwrap();
                    }
                })
        };
        (format!("raw sled, {at_once} inserts a flush"), Box::new(side))
    }

    fn raw_batch(&self, at_once: usize, is_synced: bool) -> Side<'_> {
        let mut next = 0;
        let side = move || {
            at_once
                * until_round_ends(|| {
                    let mut batch = sled::Batch::default();
                    for _ in 0..at_once {
                        next = (next + 7_919) % self.keys.len();
                        batch.insert(self.keys[next].as_str(), &value()[..]);
                    }
                    self.raw.apply_batch(batch).unwrap();
                    self.raw.flush().unwrap();
                    if is_synced {
                        self.raw_log.sync_data().unwrap();
                    }
                })
        };
        (format!("raw sled, a batch of {at_once} a flush"), Box::new(side))
    }

    fn store_set<'s>(&'s self, runtime: &'s Runtime, tasks: usize) -> Side<'s> {
        let next = Arc::new(AtomicUsize::new(0));
        let side = move || {
            runtime.block_on(async {
                let started = Instant::now();
                let running: Vec<_> = (0..tasks)
                    .map(|_| {
                        let (store, keys, next) = (self.store.clone(), Arc::clone(&self.keys), Arc::clone(&next));
                        tokio::spawn(async move {
                            let mut count = 0;
                            while started.elapsed() < ROUND {
                                let index = next.fetch_add(7_919, Ordering::Relaxed) % keys.len();
                                let outcome = store.set(&keys[index], value(), &SetOptions::default()).await;
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

/// Measures the sizes of stores on disk, and the times to load, open, close and verify the stores.
async fn space() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("churn");
    let store = SledStore::open(&path).await.unwrap();
    let keys: Vec<_> = (0..100).map(|number| Key::new([scattered(number)]).unwrap()).collect();
    let mut max = 0;
    for round in 0..200_u32 {
        for _ in 0..10 {
            let items: Vec<_> = keys.iter().map(|key| SetItem::new(key.clone(), kilobyte())).collect();
            assert!(store.set_many(&items).await.iter().all(Result::is_ok));
        }
        if round.is_multiple_of(10) {
            max = max.max(size(&path));
        }
    }
    println!(
        "100 keys of 1 KB overwritten 200000 times: at most {} MB, at the end {} MB",
        max >> 20,
        size(&path) >> 20
    );
    store.close().await.unwrap();

    for entries in [100_000, 1_000_000] {
        let path = folder.path().join(format!("reopen{entries}"));
        let store = SledStore::open(&path).await.unwrap();
        let started = Instant::now();
        let numbers: Vec<_> = (0..entries).collect();
        for numbers in numbers.chunks(1_000) {
            let item = |&number| SetItem::new(Key::new(["entries", &scattered(number)]).unwrap(), value());
            let items: Vec<_> = numbers.iter().map(item).collect();
            assert!(store.set_many(&items).await.iter().all(Result::is_ok));
        }
        let loaded = started.elapsed();
        store.close().await.unwrap();
        let started = Instant::now();
        let store = SledStore::open(&path).await.unwrap();
        let opened = started.elapsed();
        let started = Instant::now();
        store.close().await.unwrap();
        println!(
            "{entries} entries of 100 B: loaded in {loaded:.1?}, {} MB, opened again in {opened:.1?}, closed in {:.1?}",
            size(&path) >> 20,
            started.elapsed()
        );
        let started = Instant::now();
        let found = kv_sled::verify(&path).unwrap();
        println!("  verified in {:.1?}: whole {}", started.elapsed(), found.is_whole);
        let started = Instant::now();
        drop(sled::open(&path).unwrap());
        println!("  raw sled opens and closes it in {:.1?}", started.elapsed());
    }
}

fn size(folder: &Path) -> u64 {
    let of = |entry: std::fs::DirEntry| {
        let metadata = entry.metadata().unwrap();
        if metadata.is_dir() { size(&entry.path()) } else { metadata.len() }
    };
    std::fs::read_dir(folder).unwrap().map(|entry| of(entry.unwrap())).sum()
}

/// Runs an operation until the end of the round. Returns the number of runs.
fn until_round_ends(mut operation: impl FnMut()) -> usize {
    let started = Instant::now();
    let mut count = 0;
    while count % 64 != 0 || started.elapsed() < ROUND {
        operation();
        count += 1;
        if count % 64 != 0 && started.elapsed() > ROUND {
            break;
        }
    }
    count
}

/// A random value of 100 bytes.
fn value() -> Bytes {
    let mut value = vec![0; VALUE_BYTES];
    value.chunks_mut(16).for_each(|chunk| {
        let random = Version::random();
        chunk.copy_from_slice(&random.as_bytes()[..chunk.len()]);
    });
    value.into()
}

fn kilobyte() -> Bytes {
    (0..10).flat_map(|_| value()).collect()
}

/// Maps consecutive numbers to scattered keys.
fn scattered(number: usize) -> String {
    Key::ordered((number as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15))
}
