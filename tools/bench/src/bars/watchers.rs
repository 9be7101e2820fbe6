//! The cost of many watchers: for writers of other keys, and for the registration itself.

use std::sync::Arc;
use std::time::Instant;

use anykv::memory::MemoryStore;
use anykv::{Key, KvStore, WatchQuery, WatchStream};
use kv_cli::bench::{Series, figure};

use super::BenchOptions;
use super::memory::medians;
use crate::bar::{Bar, Required};
use crate::raw::{SyncDriver, poll_until_ready};

/// The number of watchers beside a writer.
const WATCHERS: usize = 100_000;
/// The number of keys that the writer overwrites.
const KEYS: usize = 10_000;

/// Watched places. None of them covers a written key.
type Shape = (&'static str, fn(usize) -> WatchQuery);

const SHAPES: [Shape; 4] = [
    ("of keys beside the written ones", |at| WatchQuery::key(key("k", at))),
    ("of prefixes beside the written ones", |at| WatchQuery::prefix(key("k", at))),
    ("of prefixes of ten lengths", |at| {
        WatchQuery::prefix(Key::new(["users", &"x".repeat(at % 10), &at.to_string()]).unwrap())
    }),
    ("of one prefix", |_| WatchQuery::prefix(Key::new(["one", "place"]).unwrap())),
];

/// A key under the segment that the written keys begin with.
fn key(kind: &str, number: usize) -> Key {
    Key::new(["users", &format!("{kind}{number:06}")]).unwrap()
}

pub(super) fn bars(options: &BenchOptions) -> Vec<Bar> {
    let mut bars: Vec<Bar> = SHAPES.iter().map(|shape| writes_beside(*shape, options)).collect();
    bars.push(registrations(options));
    bars
}

fn open(store: &dyn KvStore, query: fn(usize) -> WatchQuery) -> Vec<WatchStream> {
    (0..WATCHERS).map(|at| poll_until_ready(store.watch(&query(at))).unwrap()).collect()
}

/// Compares writes to a store with watchers of other keys against writes to a store without watchers.
fn writes_beside((name, query): Shape, options: &BenchOptions) -> Bar {
    let rounds = options.rounds();
    let stores: [Arc<dyn KvStore>; 2] = [Arc::new(MemoryStore::new()), Arc::new(MemoryStore::new())];
    let keys: Vec<Key> = (0..KEYS).map(|number| key("w", number)).collect();
    let _watchers = open(&*stores[0], query);
    for store in &stores {
        for key in &keys {
            SyncDriver::set(store, key, "a value of some twenty bytes".into());
        }
    }
    let mut positions = [0; 2];
    let [watched, alone] = rounds.run_inline(|side| {
        rounds.nanos(&keys, &mut positions[side], |key| {
            SyncDriver::set(&stores[side], key, "a value of some twenty bytes".into());
        })
    });
    let label = format!("kv-memory: overwrite beside {WATCHERS} watchers {name} vs none: time");
    Bar::new("bar-watchers", label, Required::AtMost(1.1), &watched.over(&alone)).details(medians(&watched, &alone))
}

/// Measures how many watches are opened, and how many are dropped, in one second.
fn registrations(options: &BenchOptions) -> Bar {
    let (mut opened, mut dropped) = (Series(Vec::new()), Series(Vec::new()));
    let rate = |start: Instant| WATCHERS as f64 / start.elapsed().as_secs_f64();
    for _ in 0..options.rounds().count {
        let (store, start) = (MemoryStore::new(), Instant::now());
        let watchers = open(&store, SHAPES[0].1);
        opened.0.push(rate(start));
        let start = Instant::now();
        drop(watchers);
        dropped.0.push(rate(start));
    }
    let details = dropped.spread().map(|spread| format!("{}/s dropped", figure(spread.median)));
    Bar::new("bar-watchers", "kv-memory: watches opened in one second", Required::AtLeast(50_000.0), &opened)
        .details(details.unwrap_or_default())
}
