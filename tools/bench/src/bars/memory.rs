//! The store in memory beside maps and caches.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anykv::memory::MemoryStore;
use anykv::{Bytes, Key, KeyPrefix, KvStore, ListQuery};
use kv_cli::bench::{Dataset, Random, Series, figure, micros};

use super::Measuring;
use crate::allocations;
use crate::bar::{Bar, Required};
use crate::raw::{Inline, RawDashMap, RawMoka, now};
use crate::rounds::{Rounds, median};

pub(super) fn bars(measuring: &Measuring, wants: &(dyn Fn(&str) -> bool + Sync)) -> Vec<Bar> {
    let mut bars = Vec::new();
    for entries in [10_000, 1_000_000] {
        let unbounded = || Arc::new(MemoryStore::new()) as Arc<dyn KvStore>;
        let targets: [Box<dyn Inline>; 3] =
            [Box::new(unbounded()), Box::new(RawDashMap::default()), Box::new(RawMoka::new())];
        if wants("bar-mem-get") || wants("bar-mem-set") {
            let filled = Filled::new(targets, entries);
            if wants("bar-mem-get") {
                let [ours, map, cache] = filled.gets(measuring.rounds());
                bars.push(slower("bar-mem-get", "get beside DashMap", entries, 2.0, &ours, &map));
                bars.push(faster("bar-mem-get", "get beside moka", entries, &ours, &cache));
            }
            if wants("bar-mem-set") {
                let [ours, map, cache] = filled.overwrites(measuring.rounds());
                bars.push(slower("bar-mem-set", "overwrite beside DashMap", entries, 2.5, &ours, &map));
                bars.push(faster("bar-mem-set", "overwrite beside moka", entries, &ours, &cache));
                let [ours, map, cache] = filled.inserts(measuring.rounds());
                bars.push(slower("bar-mem-set", "fresh insert beside DashMap", entries, 4.0, &ours, &map));
                bars.push(faster("bar-mem-set", "fresh insert beside moka", entries, &ours, &cache));
                bars.extend(filled.by_two_threads(measuring.rounds()));
            }
        }
        if wants("bar-mem-bounded") {
            let bounded = MemoryStore::builder().max_bytes(1 << 40).build().unwrap();
            let bounded: Arc<dyn KvStore> = Arc::new(bounded);
            let targets: [Box<dyn Inline>; 3] =
                [Box::new(bounded), Box::new(RawMoka::new()), Box::new(RawMoka::telling())];
            let filled = Filled::new(targets, entries);
            let rounds = measuring.rounds();
            let ([gets, get, _], [overwrites, overwrite, _]) = (filled.gets(rounds), filled.overwrites(rounds));
            let [inserts, insert, telling] = filled.inserts(rounds);
            for (what, ours, cache) in [
                ("bounded: get beside moka", &gets, &get),
                ("bounded: overwrite beside moka", &overwrites, &overwrite),
                ("bounded: fresh insert beside moka", &inserts, &insert),
                ("bounded: fresh insert beside moka with a listener", &inserts, &telling),
            ] {
                bars.push(slower("bar-mem-bounded", what, entries, 1.5, ours, cache));
            }
        }
    }
    if wants("bar-mem-list") {
        bars.push(lists(measuring.rounds()));
    }
    bars.extend(allocations::bars(&["bar-mem-get", "bar-mem-list"], wants));
    bars
}

/// Our time is at most so many times the other's.
fn slower(id: &'static str, what: &str, entries: u64, most: f64, ours: &Series, other: &Series) -> Bar {
    Bar::new(id, format!("{what}, {entries} entries: time"), Required::AtMost(most), &ours.over(other))
        .beside(times(ours, other))
}

/// The other's time is at least three times ours.
fn faster(id: &'static str, what: &str, entries: u64, ours: &Series, other: &Series) -> Bar {
    Bar::new(id, format!("{what}, {entries} entries: times as fast"), Required::AtLeast(3.0), &other.over(ours))
        .beside(times(ours, other))
}

/// The medians of both.
pub(super) fn times(ours: &Series, other: &Series) -> String {
    format!("{}, {}", micros(median(ours) / 1e3), micros(median(other) / 1e3))
}

/// What is compared, with the same entries in each.
struct Filled<const TARGETS: usize> {
    targets: [Box<dyn Inline>; TARGETS],
    /// Those that are there, in random order.
    keys: Vec<Key>,
    /// Those that are not.
    fresh: Vec<Key>,
    /// A clone of one costs the same everywhere, and as much as an application's own would at least.
    values: Vec<Bytes>,
}

impl<const TARGETS: usize> Filled<TARGETS> {
    fn new(targets: [Box<dyn Inline>; TARGETS], entries: u64) -> Self {
        let mut random = Random::new(7);
        let keys = |from: u64, to: u64| (from..to).map(|number| Dataset::key(number).unwrap()).collect::<Vec<_>>();
        let (mut keys, fresh) = (keys(0, entries), keys(entries, entries + (entries / 10).clamp(1_000, 50_000)));
        for place in (1..keys.len()).rev() {
            keys.swap(place, usize::try_from(random.below(place as u64 + 1)).unwrap());
        }
        for target in &targets {
            for key in &keys {
                target.set(key, random.bytes(100).into());
            }
        }
        let values = (0..256).map(|_| random.bytes(100).into()).collect();
        Self { targets, keys, fresh, values }
    }

    fn gets(&self, rounds: Rounds) -> [Series; TARGETS] {
        let mut places = [0; TARGETS];
        rounds.run_inline(|side| {
            let target = &*self.targets[side];
            rounds.nanos(&self.keys, &mut places[side], |key| drop(black_box(target.get(key))))
        })
    }

    fn overwrites(&self, rounds: Rounds) -> [Series; TARGETS] {
        let (mut places, mut values) = ([0; TARGETS], self.values.iter().cycle());
        rounds.run_inline(|side| {
            let target = &*self.targets[side];
            rounds.nanos(&self.keys, &mut places[side], |key| target.set(key, values.next().unwrap().clone()))
        })
    }

    /// Writes new keys and takes them out again, which is not counted.
    fn inserts(&self, rounds: Rounds) -> [Series; TARGETS] {
        let mut values = self.values.iter().cycle();
        rounds.run_inline(|side| {
            let (target, mut counted, mut count) = (&*self.targets[side], Duration::ZERO, 0);
            while counted < rounds.turn {
                let start = Instant::now();
                for key in &self.fresh {
                    target.set(key, values.next().unwrap().clone());
                }
                counted += start.elapsed();
                count += self.fresh.len();
                for key in &self.fresh {
                    target.remove(key);
                }
            }
            counted.as_secs_f64() * 1e9 / count as f64
        })
    }

    /// The first target by one thread and by two, each of which has a part of the keys for itself.
    fn by_two_threads(&self, rounds: Rounds) -> Vec<Bar> {
        let target = &*self.targets[0];
        let (half, other) = self.keys.split_at(self.keys.len() / 2);
        let of = |what: &str, operate: &(dyn Fn(&Key, &Bytes) + Sync)| {
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
            let what = format!("{what} by two threads beside one, {} entries: rate", self.keys.len());
            Bar::new("bar-mem-set", what, Required::AtLeast(1.0), &two.over(&one)).beside(format!(
                "{}/s, {}/s",
                figure(median(&two)),
                figure(median(&one))
            ))
        };
        vec![
            of("get", &|key, _| drop(black_box(target.get(key)))),
            of("overwrite", &|key, value| target.set(key, value.clone())),
        ]
    }
}

/// A page of a hundred among a thousand and among a million.
fn lists(rounds: Rounds) -> Bar {
    let stores = [1_000, 1_000_000].map(|entries| {
        let store: Arc<dyn KvStore> = Arc::new(MemoryStore::new());
        let mut random = Random::new(7);
        for number in 0..entries {
            Inline::set(&store, &Dataset::key(number).unwrap(), random.bytes(100).into());
        }
        let groups = 0..entries / Dataset::GROUP;
        let prefix = |group| KeyPrefix::from(Dataset::key(group * Dataset::GROUP).unwrap().parent().unwrap());
        let queries = groups.map(|group| ListQuery::new(prefix(group)).with_limit(100)).collect::<Vec<_>>();
        (store, queries)
    });
    let mut places = [0; 2];
    let [small, large] = rounds.run_inline(|side| {
        let (store, queries) = &stores[side];
        rounds.nanos(queries, &mut places[side], |query| {
            assert_eq!(now(KvStore::list(store, query)).unwrap().items.len(), 100);
        })
    });
    let what = "list of 100 among 1,000,000 beside 1,000: time";
    Bar::new("bar-mem-list", what, Required::AtMost(3.0), &large.over(&small)).beside(format!(
        "{:.1} µs, {:.1} µs",
        median(&large) / 1e3,
        median(&small) / 1e3
    ))
}
