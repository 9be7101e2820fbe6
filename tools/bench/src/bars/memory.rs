//! The in-memory store compared with maps and caches.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anykv::memory::MemoryStore;
use anykv::{Bytes, Key, KeyPrefix, KvStore, ListQuery};
use kv_cli::bench::{Dataset, Random, Series, figure, micros};

use super::BenchOptions;
use crate::allocations;
use crate::bar::{Bar, Required};
use crate::raw::{RawDashMap, RawMoka, SyncDriver, poll_until_ready};
use crate::rounds::{Rounds, median};

pub(super) fn bars(options: &BenchOptions, is_selected: &(dyn Fn(&str) -> bool + Sync)) -> Vec<Bar> {
    let mut bars = Vec::new();
    for entries in [10_000, 1_000_000] {
        let unbounded = || Arc::new(MemoryStore::new()) as Arc<dyn KvStore>;
        let targets: [Box<dyn SyncDriver>; 3] =
            [Box::new(unbounded()), Box::new(RawDashMap::default()), Box::new(RawMoka::new())];
        if is_selected("bar-mem-get") || is_selected("bar-mem-set") {
            let comparison = Comparison::new(targets, entries);
            if is_selected("bar-mem-get") {
                let [ours, map, cache] = comparison.gets(options.rounds());
                bars.push(time_bar("bar-mem-get", "get vs DashMap", entries, 2.0, &ours, &map));
                bars.push(speedup_bar("bar-mem-get", "get vs moka", entries, &ours, &cache));
            }
            if is_selected("bar-mem-set") {
                let [ours, map, cache] = comparison.overwrites(options.rounds());
                bars.push(time_bar("bar-mem-set", "overwrite vs DashMap", entries, 2.5, &ours, &map));
                bars.push(speedup_bar("bar-mem-set", "overwrite vs moka", entries, &ours, &cache));
                let [ours, map, cache] = comparison.inserts(options.rounds());
                bars.push(time_bar("bar-mem-set", "insert vs DashMap", entries, 4.0, &ours, &map));
                bars.push(speedup_bar("bar-mem-set", "insert vs moka", entries, &ours, &cache));
                bars.extend(comparison.two_threads(options.rounds()));
            }
        }
        if is_selected("bar-mem-bounded") {
            let bounded = MemoryStore::builder().max_bytes(1 << 40).build().unwrap();
            let bounded: Arc<dyn KvStore> = Arc::new(bounded);
            let targets: [Box<dyn SyncDriver>; 3] =
                [Box::new(bounded), Box::new(RawMoka::new()), Box::new(RawMoka::with_listener())];
            let comparison = Comparison::new(targets, entries);
            let rounds = options.rounds();
            let ([gets, get, _], [overwrites, overwrite, _]) = (comparison.gets(rounds), comparison.overwrites(rounds));
            let [inserts, insert, with_listener] = comparison.inserts(rounds);
            for (label, ours, cache) in [
                ("bounded: get vs moka", &gets, &get),
                ("bounded: overwrite vs moka", &overwrites, &overwrite),
                ("bounded: insert vs moka", &inserts, &insert),
                ("bounded: insert vs moka with an eviction listener", &inserts, &with_listener),
            ] {
                bars.push(time_bar("bar-mem-bounded", label, entries, 1.5, ours, cache));
            }
        }
    }
    if is_selected("bar-mem-list") {
        bars.push(lists(options.rounds()));
    }
    bars.extend(allocations::bars(&["bar-mem-get", "bar-mem-list"], is_selected));
    bars
}

/// Creates a bar: our time is at most `max` times the time of the other side.
fn time_bar(id: &'static str, label: &str, entries: u64, max: f64, ours: &Series, other: &Series) -> Bar {
    Bar::new(id, format!("{label}, {entries} entries: time"), Required::AtMost(max), &ours.over(other))
        .details(medians(ours, other))
}

/// Creates a bar: the time of the other side is at least three times our time.
fn speedup_bar(id: &'static str, label: &str, entries: u64, ours: &Series, other: &Series) -> Bar {
    Bar::new(id, format!("{label}, {entries} entries: times as fast"), Required::AtLeast(3.0), &other.over(ours))
        .details(medians(ours, other))
}

/// Formats the medians of both sides, which are in nanoseconds.
pub(super) fn medians(ours: &Series, other: &Series) -> String {
    format!("{}, {}", micros(median(ours) / 1e3), micros(median(other) / 1e3))
}

/// The sides of a comparison, with the same entries in each.
struct Comparison<const TARGETS: usize> {
    targets: [Box<dyn SyncDriver>; TARGETS],
    /// The stored keys, in random order.
    keys: Vec<Key>,
    /// Keys that are not stored.
    absent: Vec<Key>,
    /// Values to clone for each write. The cost of a clone is the same on all sides. An application has at least this
    /// cost for each write.
    values: Vec<Bytes>,
}

impl<const TARGETS: usize> Comparison<TARGETS> {
    fn new(targets: [Box<dyn SyncDriver>; TARGETS], entries: u64) -> Self {
        let mut random = Random::new(7);
        let keys = |from: u64, to: u64| (from..to).map(|number| Dataset::key(number).unwrap()).collect::<Vec<_>>();
        let (mut keys, absent) = (keys(0, entries), keys(entries, entries + (entries / 10).clamp(1_000, 50_000)));
        for last in (1..keys.len()).rev() {
            keys.swap(last, usize::try_from(random.below(last as u64 + 1)).unwrap());
        }
        for target in &targets {
            for key in &keys {
                target.set(key, random.bytes(100).into());
            }
        }
        let values = (0..256).map(|_| random.bytes(100).into()).collect();
        Self { targets, keys, absent, values }
    }

    fn gets(&self, rounds: Rounds) -> [Series; TARGETS] {
        let mut positions = [0; TARGETS];
        rounds.run_inline(|side| {
            let target = &*self.targets[side];
            rounds.nanos(&self.keys, &mut positions[side], |key| drop(black_box(target.get(key))))
        })
    }

    fn overwrites(&self, rounds: Rounds) -> [Series; TARGETS] {
        let (mut positions, mut values) = ([0; TARGETS], self.values.iter().cycle());
        rounds.run_inline(|side| {
            let target = &*self.targets[side];
            rounds.nanos(&self.keys, &mut positions[side], |key| target.set(key, values.next().unwrap().clone()))
        })
    }

    /// Measures inserts of new keys. The keys are removed again outside of the measured time.
    fn inserts(&self, rounds: Rounds) -> [Series; TARGETS] {
        let mut values = self.values.iter().cycle();
        rounds.run_inline(|side| {
            let (target, mut elapsed, mut count) = (&*self.targets[side], Duration::ZERO, 0);
            while elapsed < rounds.slice {
                let start = Instant::now();
                for key in &self.absent {
                    target.set(key, values.next().unwrap().clone());
                }
                elapsed += start.elapsed();
                count += self.absent.len();
                for key in &self.absent {
                    target.remove(key);
                }
            }
            elapsed.as_secs_f64() * 1e9 / count as f64
        })
    }

    /// Compares two threads with one thread on the first target. Each thread has its own half of the keys.
    fn two_threads(&self, rounds: Rounds) -> Vec<Bar> {
        let target = &*self.targets[0];
        let (half, other) = self.keys.split_at(self.keys.len() / 2);
        let compare = |operation: &str, operate: &(dyn Fn(&Key, &Bytes) + Sync)| {
            let run = |keys: &[Key]| {
                let mut values = self.values.iter().cycle();
                1e9 / rounds.nanos(keys, &mut 0, |key| operate(key, values.next().unwrap()))
            };
            let [one, two] = rounds.run_inline(|side| match side {
                0 => run(half),
                _ => std::thread::scope(|scope| {
                    let second = scope.spawn(|| run(other));
                    run(half) + second.join().unwrap()
                }),
            });
            let label = format!("{operation}, two threads vs one, {} entries: throughput", self.keys.len());
            Bar::new("bar-mem-set", label, Required::AtLeast(1.0), &two.over(&one)).details(format!(
                "{}/s, {}/s",
                figure(median(&two)),
                figure(median(&one))
            ))
        };
        vec![
            compare("get", &|key, _| drop(black_box(target.get(key)))),
            compare("overwrite", &|key, value| target.set(key, value.clone())),
        ]
    }
}

/// Compares a page of 100 entries in a store of 1,000,000 entries with such a page in a store of 1,000 entries.
fn lists(rounds: Rounds) -> Bar {
    let stores = [1_000, 1_000_000].map(|entries| {
        let store: Arc<dyn KvStore> = Arc::new(MemoryStore::new());
        let mut random = Random::new(7);
        for number in 0..entries {
            SyncDriver::set(&store, &Dataset::key(number).unwrap(), random.bytes(100).into());
        }
        let groups = 0..entries / Dataset::GROUP;
        let prefix = |group| KeyPrefix::from(Dataset::key(group * Dataset::GROUP).unwrap().parent().unwrap());
        let queries = groups.map(|group| ListQuery::new(prefix(group)).with_limit(100)).collect::<Vec<_>>();
        (store, queries)
    });
    let mut positions = [0; 2];
    let [small, large] = rounds.run_inline(|side| {
        let (store, queries) = &stores[side];
        rounds.nanos(queries, &mut positions[side], |query| {
            assert_eq!(poll_until_ready(KvStore::list(store, query)).unwrap().items.len(), 100);
        })
    });
    let label = "list of 100, 1,000,000 entries vs 1,000: time";
    Bar::new("bar-mem-list", label, Required::AtMost(3.0), &large.over(&small)).details(format!(
        "{:.1} µs, {:.1} µs",
        median(&large) / 1e3,
        median(&small) / 1e3
    ))
}
