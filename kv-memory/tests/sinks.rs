//! Sinks are called inside the section that makes a change visible, so a cache over them serves nothing old.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod common;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use kv_core::{
    ChangeSink, GapReason, GetOptions, GetOutcome, Key, KeyPrefix, KvStore, ManualClock, Moment, NewExpiry, SetOptions,
    WatchTarget,
};
use kv_memory::MemoryStore;

use self::common::{block_on, put};

fn key(text: &str) -> Key {
    Key::new([text]).unwrap()
}

fn all() -> WatchTarget {
    KeyPrefix::ALL.into()
}

fn engines(clock: &ManualClock) -> [MemoryStore; 2] {
    let builder = || MemoryStore::builder().clock(Arc::new(clock.clone()));
    [builder().build().unwrap(), builder().max_bytes(1 << 30).build().unwrap()]
}

/// A near cache of numbers: it keeps a value that was read, unless the key changed since the read began.
#[derive(Debug, Default)]
struct Near(Mutex<HashMap<Key, NearKey>>);

#[derive(Debug, Default)]
struct NearKey {
    changes: u64,
    value: Option<u64>,
}

impl ChangeSink for Near {
    fn changed(&self, key: &Key) {
        let mut keys = self.0.lock().unwrap();
        let near = keys.entry(key.clone()).or_default();
        near.changes += 1;
        near.value = None;
    }

    fn current(&self, _as_of: Moment) {}

    fn lost(&self, reason: GapReason) {
        assert_eq!(reason, GapReason::Closed);
    }
}

impl Near {
    fn value(&self, key: &Key) -> Option<u64> {
        self.0.lock().unwrap().get(key)?.value
    }

    /// Reads the key from the store, keeps the value unless the key changed meanwhile, and returns the value.
    fn fill(&self, store: &MemoryStore, key: &Key) -> u64 {
        let before = self.0.lock().unwrap().entry(key.clone()).or_default().changes;
        let value = number(store, key);
        let mut keys = self.0.lock().unwrap();
        let near = keys.entry(key.clone()).or_default();
        if near.changes == before {
            near.value = Some(value);
        }
        value
    }
}

fn number(store: &MemoryStore, key: &Key) -> u64 {
    let entry = block_on(store.get(key)).unwrap();
    entry.map_or(0, |entry| std::str::from_utf8(&entry.value).unwrap().trim().parse().unwrap())
}

#[test]
fn a_near_cache_never_serves_what_is_older_than_what_anyone_has_read() {
    const ROUNDS: u64 = 20_000;
    for store in engines(&ManualClock::new()) {
        let near = Arc::new(Near::default());
        let registration = block_on(store.watch_into(&all(), Arc::clone(&near) as Arc<dyn ChangeSink>)).unwrap();
        let is_done = AtomicBool::new(false);
        thread::scope(|scope| {
            let (store, near, is_done) = (&store, &near, &is_done);
            scope.spawn(move || {
                for round in 1..=ROUNDS {
                    // Lengths that differ, so that the bounded engine replaces some slots and inserts others.
                    let value = format!("{round}{}", " ".repeat(if round % 3 == 0 { 200 } else { 0 }));
                    block_on(put(store, &key("k"), value, &SetOptions::default()));
                    assert!(near.value(&key("k")).is_none_or(|value| value >= round), "an own write is not seen");
                }
                is_done.store(true, Ordering::Release);
            });
            for _ in 0..3 {
                scope.spawn(move || {
                    while !is_done.load(Ordering::Acquire) {
                        let seen = near.fill(store, &key("k"));
                        let served = near.value(&key("k"));
                        assert!(served.is_none_or(|value| value >= seen), "{served:?} is served after {seen} was read");
                    }
                });
            }
        });
        near.fill(&store, &key("k"));
        assert_eq!(near.value(&key("k")), Some(ROUNDS));
        drop(registration);
        block_on(put(&store, &key("k"), "0", &SetOptions::default()));
        assert_eq!(near.value(&key("k")), Some(ROUNDS), "a sink is called after its registration was dropped");
    }
}

/// A sink that records its calls.
#[derive(Debug, Default)]
struct Recorded(Mutex<Vec<String>>);

impl ChangeSink for Recorded {
    fn changed(&self, key: &Key) {
        self.0.lock().unwrap().push(format!("changed {key}"));
    }

    fn current(&self, as_of: Moment) {
        assert!(as_of.elapsed() < Duration::from_secs(60));
        self.0.lock().unwrap().push("current".to_owned());
    }

    fn lost(&self, reason: GapReason) {
        self.0.lock().unwrap().push(format!("lost {reason:?}"));
    }
}

#[test]
fn a_sink_is_current_from_the_registration_until_the_store_is_closed() {
    let clock = ManualClock::new();
    for store in engines(&clock) {
        let sink = Arc::new(Recorded::default());
        let target = WatchTarget::Key(key("k"));
        let registration = block_on(store.watch_into(&target, Arc::clone(&sink) as Arc<dyn ChangeSink>)).unwrap();
        block_on(async {
            put(&store, &key("k"), "1", &SetOptions::default()).await;
            put(&store, &key("other"), "1", &SetOptions::default()).await;
            put(&store, &Key::new(["k", "child"]).unwrap(), "1", &SetOptions::default()).await;
            let absent = SetOptions::default().with_when(kv_core::When::Absent);
            assert!(!store.set(&key("k"), "2".into(), &absent).await.unwrap().is_stored());
            assert!(store.touch(&key("k"), NewExpiry::After(Duration::from_secs(1))).await.unwrap());
            clock.advance(Duration::from_secs(2));
            assert_eq!(store.sweep().await.unwrap(), 1);
            store.close().await.unwrap();
        });
        let calls = ["current", "changed k", "changed k", "changed k", "lost Closed"];
        assert_eq!(*sink.0.lock().unwrap(), calls);
        drop(registration);
        let late = Arc::new(Recorded::default());
        assert!(block_on(store.watch_into(&all(), late)).is_err());
    }
}

#[test]
fn a_touched_entry_with_the_known_version_is_not_modified_and_shows_its_deadline() {
    let clock = ManualClock::new();
    for store in engines(&clock) {
        block_on(async {
            let version = store.set(&key("k"), "1".into(), &SetOptions::default()).await.unwrap().version().unwrap();
            assert!(store.touch(&key("k"), NewExpiry::After(Duration::from_secs(5))).await.unwrap());
            let entry = store.get(&key("k")).await.unwrap().unwrap();
            let options = GetOptions::default().with_fresh().with_unless_version(version);
            let known = store.get_with(&key("k"), &options).await.unwrap();
            assert_eq!(known, GetOutcome::NotModified { expires: entry.expires });
            put(&store, &key("k"), "1", &SetOptions::default()).await;
            let GetOutcome::Found(found) = store.get_with(&key("k"), &options).await.unwrap() else { panic!() };
            assert_eq!(found.value, "1");
            assert_eq!(store.time().await.unwrap(), kv_core::Clock::now(&clock));
            store.close().await.unwrap();
            assert!(store.get_with(&key("k"), &options).await.is_err() && store.time().await.is_err());
        });
    }
}
