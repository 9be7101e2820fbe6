//! Stores with many watchers: the cost for writers of other keys, and the rate of registrations.
//!
//! The measurements are ignored by default. Run them alone and optimised:
//! `cargo test --release -p anykv-memory --test many_watchers -- --ignored --nocapture --test-threads 1`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]
#![allow(clippy::disallowed_methods, reason = "measures time")]
#![allow(clippy::cast_precision_loss, reason = "ratios and rates need no exact numbers")]

use std::time::Instant;

use futures_util::{FutureExt, StreamExt};
use kv_core::{Bytes, Key, KvStore, SetOptions, WatchEvent, WatchQuery, WatchStream};
use kv_memory::MemoryStore;

/// The number of watchers beside a writer.
const WATCHERS: usize = 100_000;
/// The number of keys that a writer overwrites.
const KEYS: usize = 10_000;

/// Returns a key under the segment that the writer's keys begin with.
fn key(kind: &str, number: usize) -> Key {
    Key::new(["users", &format!("{kind}{number:06}")]).unwrap()
}

fn written_keys() -> Vec<Key> {
    (0..KEYS).map(|number| key("w", number)).collect()
}

/// The watched keys of each measurement. None of them is a written key, and no prefix covers a written key.
fn queries(shape: &str) -> Vec<WatchQuery> {
    let number = |number: usize| number.to_string();
    let query = |at: usize| match shape {
        "keys beside the written ones" => WatchQuery::key(key("k", at)),
        "prefixes beside the written ones" => WatchQuery::prefix(key("k", at)),
        "prefixes of ten lengths" => {
            WatchQuery::prefix(Key::new(["users", &"x".repeat(at % 10), &number(at)]).unwrap())
        }
        "prefixes elsewhere" => WatchQuery::prefix(Key::new(["elsewhere", &number(at)]).unwrap()),
        _ => WatchQuery::prefix(Key::new(["one", "place"]).unwrap()),
    };
    (0..WATCHERS).map(query).collect()
}

async fn open(store: &MemoryStore, queries: &[WatchQuery]) -> Vec<WatchStream> {
    let mut streams = Vec::with_capacity(queries.len());
    for query in queries {
        streams.push(store.watch(query).await.unwrap());
    }
    streams
}

/// Overwrites every key once, and returns the nanoseconds per write.
async fn overwrite(store: &MemoryStore, keys: &[Key]) -> f64 {
    let (options, value) = (SetOptions::default(), Bytes::from_static(b"a value of some twenty bytes"));
    let start = Instant::now();
    for key in keys {
        assert!(store.set(key, value.clone(), &options).await.unwrap().is_stored());
    }
    start.elapsed().as_secs_f64() * 1e9 / keys.len() as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The nanoseconds per write of the fastest of some rounds over all keys, after a round that warms the caches.
async fn fastest(store: &MemoryStore, keys: &[Key]) -> f64 {
    let mut fastest = overwrite(store, keys).await;
    for _ in 0..4 {
        fastest = overwrite(store, keys).await.min(fastest);
    }
    fastest
}

/// The time of a write beside watchers over the time of a write without watchers, on one store.
#[derive(Debug)]
struct Measured {
    ratio: f64,
    alone_nanos: f64,
    registrations_per_second: f64,
    drops_per_second: f64,
}

/// Measures writes to a store beside watchers of `watched`, or of the same store if it is `None`.
async fn measure(queries: &[WatchQuery], watched: Option<&MemoryStore>) -> Measured {
    let (store, keys) = (MemoryStore::new(), written_keys());
    let watched = watched.unwrap_or(&store);
    let (mut ratios, mut alone_nanos, mut opening, mut dropping) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..21 {
        let before = fastest(&store, &keys).await;
        let start = Instant::now();
        let streams = open(watched, queries).await;
        opening.push(queries.len() as f64 / start.elapsed().as_secs_f64());
        let beside = fastest(&store, &keys).await;
        let start = Instant::now();
        drop(streams);
        dropping.push(queries.len() as f64 / start.elapsed().as_secs_f64());
        let after = fastest(&store, &keys).await;
        ratios.push(beside / before.min(after));
        alone_nanos.push(before.min(after));
    }
    Measured {
        ratio: median(ratios),
        alone_nanos: median(alone_nanos),
        registrations_per_second: median(opening),
        drops_per_second: median(dropping),
    }
}

#[tokio::test]
#[ignore = "a measurement"]
async fn writers_of_other_keys_are_as_fast_as_without_watchers() {
    let mut slow = Vec::new();
    let elsewhere = measure(&queries("prefixes elsewhere"), Some(&MemoryStore::new())).await;
    println!("{WATCHERS} watchers of another store: {:.3}", elsewhere.ratio);
    for shape in [
        "keys beside the written ones",
        "prefixes beside the written ones",
        "prefixes of ten lengths",
        "prefixes elsewhere",
        "one prefix",
    ] {
        let measured = measure(&queries(shape), None).await;
        let Measured { ratio, alone_nanos, registrations_per_second, drops_per_second } = &measured;
        println!("{WATCHERS} watchers of {shape}: {ratio:.3} × {alone_nanos:.1} ns a write");
        println!("  {registrations_per_second:.0} registrations/s, {drops_per_second:.0} drops/s");
        if measured.ratio > 1.1 || measured.registrations_per_second < 50_000.0 {
            slow.push((shape, measured));
        }
    }
    assert!(slow.is_empty(), "{WATCHERS} watchers of other keys cost too much: {slow:?}");
}

#[tokio::test]
async fn each_of_many_watchers_gets_only_its_own_changes() {
    const STORED: usize = 2_000;
    let store = MemoryStore::new();
    let streams = open(&store, &(0..STORED).map(|at| WatchQuery::key(key("k", at))).collect::<Vec<_>>()).await;
    // Every second watch ends, so that the others are found after removals.
    let kept: Vec<_> = streams.into_iter().enumerate().filter(|(at, _)| at % 2 == 1).collect();
    for at in 0..STORED {
        overwrite(&store, &[key("k", at)]).await;
    }
    for (at, mut stream) in kept {
        let event = stream.next().await.unwrap().unwrap();
        assert!(matches!(event, WatchEvent::Set { key: ref set, .. } if *set == key("k", at)), "{at}: {event:?}");
        let second = tokio::task::unconstrained(stream.next()).now_or_never();
        assert!(second.is_none(), "watcher {at} got a second event");
    }
}
