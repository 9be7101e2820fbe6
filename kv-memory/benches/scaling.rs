//! Measures the times of operations in stores of different sizes, and in raw maps for comparison.
//!
//! `cargo bench -p anykv-memory` runs all benchmarks. An argument selects those whose names contain it: `get/`,
//! `/1000000`, `two_threads`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a benchmark fails by panicking")]

use std::cell::LazyCell;
use std::collections::HashMap;
use std::fmt::Debug;
use std::hint::black_box;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use futures_util::FutureExt;
use kv_core::{DeleteOptions, Expiry, Key, KeyPrefix, KvStore, ListQuery, SetOptions};
use kv_memory::MemoryStore;

/// The numbers of entries in a store.
const SIZES: [usize; 2] = [1_000, 1_000_000];
/// The number of keys under one prefix.
const GROUP: usize = 100;
const VALUE_BYTES: usize = 100;

/// The measured map: a store through a trait object, or a raw map.
trait Target: Debug + Send + Sync {
    fn get(&self, key: &Key) -> Option<Bytes>;
    fn set(&self, key: &Key, value: Bytes);
    fn remove(&self, key: &Key);
}

impl Target for Arc<dyn KvStore> {
    fn get(&self, key: &Key) -> Option<Bytes> {
        Some(now(KvStore::get(self, key)).unwrap()?.value)
    }

    fn set(&self, key: &Key, value: Bytes) {
        assert!(now(KvStore::set(self, key, value, &SetOptions::default())).unwrap().is_stored());
    }

    fn remove(&self, key: &Key) {
        assert!(now(KvStore::delete(self, key, &DeleteOptions::default())).unwrap().is_deleted());
    }
}

/// A value and its deadline. The deadline makes the map comparable, because a map with expiry would also have to check
/// a deadline.
type Raw = (Bytes, Option<SystemTime>);

impl Target for Mutex<HashMap<Key, Raw>> {
    fn get(&self, key: &Key) -> Option<Bytes> {
        self.lock().unwrap().get(key).filter(|(_, deadline)| deadline.is_none()).map(|(value, _)| value.clone())
    }

    fn set(&self, key: &Key, value: Bytes) {
        self.lock().unwrap().insert(key.clone(), (value, None));
    }

    fn remove(&self, key: &Key) {
        self.lock().unwrap().remove(key);
    }
}

impl Target for moka::future::Cache<Key, Bytes> {
    fn get(&self, key: &Key) -> Option<Bytes> {
        now(self.get(key))
    }

    fn set(&self, key: &Key, value: Bytes) {
        now(self.insert(key.clone(), value));
    }

    fn remove(&self, key: &Key) {
        now(self.invalidate(key));
    }
}

/// Polls a future until it is ready. The future is pending only if two threads use the same key of a cache.
fn now<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    loop {
        if let Some(output) = future.as_mut().now_or_never() {
            return output;
        }
        std::thread::yield_now();
    }
}

fn unbounded() -> Arc<dyn KvStore> {
    Arc::new(MemoryStore::new())
}

fn bounded() -> Arc<dyn KvStore> {
    Arc::new(MemoryStore::builder().max_bytes(1 << 40).build().unwrap())
}

fn targets() -> [(&'static str, Box<dyn Target>); 4] {
    let cache = moka::future::Cache::builder()
        .max_capacity(1 << 40)
        .weigher(|_: &Key, value: &Bytes| u32::try_from(value.len()).unwrap())
        .eviction_policy(moka::policy::EvictionPolicy::lru())
        .build();
    [
        ("unbounded", Box::new(unbounded())),
        ("mutex_hashmap", Box::new(Mutex::new(HashMap::<Key, Raw>::new()))),
        ("bounded", Box::new(bounded())),
        ("raw_moka", Box::new(cache)),
    ]
}

fn key(number: usize) -> Key {
    Key::new(["items", &format!("{:06}", number / GROUP), &format!("{:02}", number % GROUP)]).unwrap()
}

fn value(number: usize) -> Bytes {
    let mut bytes = vec![0; VALUE_BYTES];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes.into()
}

/// Fills a store and returns its keys, shuffled.
fn filled(target: &dyn Target, size: usize) -> Vec<Key> {
    let mut numbers: Vec<_> = (0..size).collect();
    let mut state = 88_172_645_463_325_252_u64;
    for index in (1..size).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        numbers.swap(index, usize::try_from(state % (index as u64 + 1)).unwrap());
    }
    let keys: Vec<_> = numbers.into_iter().map(key).collect();
    for (number, key) in keys.iter().enumerate() {
        target.set(key, value(number));
    }
    keys
}

/// Runs an operation `iterations` times on each thread, over the keys in a cycle, and returns the elapsed time.
fn timed(threads: usize, iterations: u64, keys: &[Key], operation: impl Fn(&Key) + Sync) -> Duration {
    #[expect(clippy::disallowed_methods, reason = "the benchmark measures real time")]
    let start = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let operation = &operation;
            let first = thread * keys.len() / threads;
            let run = move || (0..iterations).zip(keys.iter().cycle().skip(first)).for_each(|(_, key)| operation(key));
            if thread + 1 < threads {
                scope.spawn(run);
            } else {
                run();
            }
        }
    });
    start.elapsed()
}

fn single_keys(criterion: &mut Criterion) {
    for size in SIZES {
        for (name, target) in targets() {
            // Fill the store lazily, because an argument may select only benchmarks of other stores.
            let keys = LazyCell::new(|| filled(&*target, size));
            for (threads, group) in [(1, ""), (2, "_by_two_threads")] {
                let id = |operation: &str| format!("{operation}{group}/{name}/{size}");
                criterion.bench_function(&id("get"), |bencher| {
                    bencher.iter_custom(|iterations| {
                        timed(threads, iterations, &keys, |key| {
                            black_box(target.get(key));
                        })
                    });
                });
                criterion.bench_function(&id("overwrite"), |bencher| {
                    let value = value(7);
                    bencher.iter_custom(|iterations| {
                        timed(threads, iterations, &keys, |key| target.set(key, value.clone()))
                    });
                });
                criterion.bench_function(&id("insert"), |bencher| {
                    // Insert new keys between the existing keys. Each round removes them again.
                    let count = (size / 10).max(1_000);
                    let new_keys: Vec<_> = keys.iter().take(count).map(|key| key.child("new").unwrap()).collect();
                    bencher.iter_custom(|iterations| {
                        let (mut remaining, mut time) = (iterations, Duration::ZERO);
                        while remaining > 0 {
                            let round = remaining.min((new_keys.len() / threads) as u64);
                            time += timed(threads, round, &new_keys, |key| target.set(key, Bytes::from_static(b"x")));
                            timed(threads, round, &new_keys, |key| target.remove(key));
                            remaining -= round;
                        }
                        time
                    });
                });
            }
        }
    }
}

fn deadlines_and_lists(criterion: &mut Criterion) {
    for size in SIZES {
        for (name, store) in [("unbounded", unbounded()), ("bounded", bounded())] {
            let keys = LazyCell::new(|| filled(&store, size));
            let id = |operation: &str| format!("{operation}/{name}/{size}");
            for limit in [5, GROUP] {
                criterion.bench_function(&id(&format!("list_{limit}")), |bencher| {
                    let prefixes = keys.iter().cycle().map(|key| KeyPrefix::from(key.parent().unwrap()));
                    let mut queries = prefixes.map(|prefix| ListQuery::new(prefix).with_limit(limit));
                    bencher.iter_batched(
                        || queries.next().unwrap(),
                        |query| {
                            let page = now(store.list(&query)).unwrap();
                            assert_eq!(page.items.len(), limit);
                            page
                        },
                        criterion::BatchSize::SmallInput,
                    );
                });
            }
            let ttl = SetOptions::default().with_expiry(Expiry::After(Duration::from_secs(3_600)));
            criterion.bench_function(&id("set_with_ttl"), |bencher| {
                let (value, mut next) = (value(7), keys.iter().cycle());
                bencher
                    .iter(|| now(KvStore::set(&store, next.next().unwrap(), value.clone(), &ttl)).unwrap().is_stored());
            });
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(1));
    targets = single_keys, deadlines_and_lists
}
criterion_main!(benches);
