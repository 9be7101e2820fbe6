//! `sweep` and the background task free expired entries.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use kv_core::{
    Expiry, Key, KeyPrefix, KvStore, ManualClock, NewExpiry, SetOptions, Transaction, WatchEvent, WatchQuery,
};
use kv_memory::{MemoryBuilder, MemoryStore};

use self::common::{put, ttl};

const INTERVAL: Duration = Duration::from_millis(500);

fn key(number: usize) -> Key {
    Key::new(["k", &number.to_string()]).unwrap()
}

/// Returns a store of each engine with a clock that the test sets. The bounded store is so large that it evicts
/// nothing.
fn engines() -> [(MemoryStore, ManualClock); 2] {
    [MemoryStore::builder(), MemoryStore::builder().max_bytes(1 << 30)].map(on_a_manual_clock)
}

fn on_a_manual_clock(builder: MemoryBuilder) -> (MemoryStore, ManualClock) {
    let clock = ManualClock::new();
    (builder.sweep_interval(INTERVAL).clock(Arc::new(clock.clone())).build().unwrap(), clock)
}

fn sizes(store: &MemoryStore) -> (usize, usize, usize) {
    let stats = store.stats();
    (stats.entries, stats.deadlines, stats.ordered_keys)
}

/// Waits until a condition holds, but not longer than 60 seconds of real time.
async fn until(condition: impl Fn() -> bool + Send + Sync) {
    let wait = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait).await.expect("the condition holds within 60 seconds");
}

/// Yields until the background task sleeps on the clock.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn expired_entries_are_removed_from_all_indexes_without_being_read() {
    // The bounded engine is slower, so it gets fewer entries.
    for ((store, clock), many) in engines().into_iter().zip([200_000, 20_000]) {
        for number in 0..many {
            put(&store, &key(number), "x", &ttl(1)).await;
        }
        put(&store, &key(many), "lasting", &ttl(3_600)).await;
        settle().await;
        clock.advance(Duration::from_secs(2));
        until(|| sizes(&store) == (1, 1, 1)).await;
        assert_eq!(store.get(&key(many)).await.unwrap().unwrap().value, "lasting");
    }
}

#[tokio::test]
async fn the_task_catches_up_with_a_clock_that_moved_before_the_task_slept() {
    for (store, clock) in engines() {
        put(&store, &key(0), "x", &ttl(1)).await;
        clock.advance(Duration::from_secs(2));
        until(|| sizes(&store) == (0, 0, 0)).await;
    }
}

#[tokio::test]
async fn sweep_frees_expired_entries_at_once_and_counts_them() {
    // With this interval, the background task does not sweep during the test.
    let (hour, clock) = (Duration::from_secs(3_600), ManualClock::new());
    for builder in [MemoryStore::builder(), MemoryStore::builder().max_bytes(1 << 30)] {
        let store = builder.sweep_interval(hour).clock(Arc::new(clock.clone())).build().unwrap();
        for number in 0..1_000 {
            put(&store, &key(number), "x", &ttl(if number % 4 == 0 { 100 } else { 10 })).await;
        }
        assert_eq!(store.sweep().await.unwrap(), 0);
        assert_eq!(sizes(&store), (1_000, 1_000, 1_000));
        clock.advance(Duration::from_secs(10));
        assert_eq!(store.sweep().await.unwrap(), 750);
        assert_eq!(sizes(&store), (250, 250, 250));
        assert_eq!(store.sweep().await.unwrap(), 0);
    }
}

#[tokio::test]
async fn changing_a_deadline_leaves_no_old_deadline_in_the_index() {
    for (store, clock) in engines() {
        for _ in 0..3 {
            for number in 0..100 {
                put(&store, &key(number), "x", &ttl(5)).await;
                assert!(store.touch(&key(number), NewExpiry::After(Duration::from_secs(50))).await.unwrap());
            }
        }
        assert_eq!(store.stats().deadlines, 100);
        clock.advance(Duration::from_secs(20));
        assert_eq!(store.sweep().await.unwrap(), 0);
        for number in 0..100 {
            assert!(store.touch(&key(number), NewExpiry::Never).await.unwrap());
        }
        assert_eq!(store.stats().deadlines, 0);
        clock.advance(Duration::from_secs(3_600));
        assert_eq!(store.sweep().await.unwrap(), 0);
        assert_eq!(store.clear(&KeyPrefix::ALL).await.unwrap(), 100);
        store.sweep().await.unwrap();
        assert_eq!(sizes(&store), (0, 0, 0));
    }
}

#[tokio::test]
async fn the_task_ends_without_deadlines_and_a_later_write_starts_it_again() {
    for (store, clock) in engines() {
        let idle = tokio::runtime::Handle::current().metrics().num_alive_tasks();
        put(&store, &key(0), "lasting", &SetOptions::default()).await;
        assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), idle);
        for round in 1..4 {
            put(&store, &key(round), "x", &ttl(1)).await;
            assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), idle + 1);
            settle().await;
            clock.advance(Duration::from_secs(2));
            until(|| tokio::runtime::Handle::current().metrics().num_alive_tasks() == idle).await;
            assert_eq!(sizes(&store), (1, 0, 1));
        }
    }
}

#[tokio::test]
async fn the_task_ends_when_the_last_handle_is_dropped() {
    for (store, _clock) in engines() {
        let idle = tokio::runtime::Handle::current().metrics().num_alive_tasks();
        put(&store, &key(0), "x", &ttl(1)).await;
        let clone = store.clone();
        drop(store);
        settle().await;
        assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), idle + 1);
        drop(clone);
        until(|| tokio::runtime::Handle::current().metrics().num_alive_tasks() == idle).await;
    }
}

#[test]
fn a_write_starts_the_task_again_after_its_runtime_has_ended() {
    for (store, clock) in engines() {
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime().block_on(async { put(&store, &key(0), "x", &ttl(1)).await });
        assert_eq!(store.stats().deadlines, 1);
        runtime().block_on(async {
            put(&store, &key(1), "x", &ttl(1)).await;
            settle().await;
            clock.advance(Duration::from_secs(2));
            until(|| sizes(&store) == (0, 0, 0)).await;
        });
    }
}

#[tokio::test]
async fn every_write_with_a_deadline_starts_the_task() {
    let idle = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let is_swept_after = async |write: fn(MemoryStore) -> kv_core::BoxFuture<'static, ()>| {
        let (store, clock) = on_a_manual_clock(MemoryStore::builder());
        write(store.clone()).await;
        settle().await;
        clock.advance(Duration::from_secs(2));
        until(|| store.stats().deadlines == 0).await;
        drop(store);
        until(|| tokio::runtime::Handle::current().metrics().num_alive_tasks() == idle).await;
    };
    is_swept_after(|store| {
        Box::pin(async move {
            let expiry = Expiry::After(Duration::from_secs(1));
            let _ = store.commit(&Transaction::new().set(key(0), "x", expiry)).await.unwrap();
        })
    })
    .await;
    is_swept_after(|store| {
        Box::pin(async move {
            let options = kv_core::IncrementOptions::default().with_expiry(Expiry::After(Duration::from_secs(1)));
            store.increment(&key(0), 1, &options).await.unwrap();
        })
    })
    .await;
    is_swept_after(|store| {
        Box::pin(async move {
            put(&store, &key(0), "x", &SetOptions::default()).await;
            store.touch(&key(0), NewExpiry::After(Duration::from_secs(1))).await.unwrap();
        })
    })
    .await;
}

#[tokio::test]
async fn watchers_are_notified_of_expired_entries() {
    for (store, clock) in engines() {
        put(&store, &key(0), "x", &ttl(1)).await;
        let mut watch = store.watch(&WatchQuery::prefix(KeyPrefix::ALL)).await.unwrap();
        settle().await;
        clock.advance(Duration::from_secs(1));
        assert_eq!(watch.next().await.unwrap().unwrap(), WatchEvent::Removed { key: key(0) });
    }
}

/// A clock that panics when a task sleeps on it.
#[derive(Debug)]
struct ClockWithoutTimer(ManualClock);

#[async_trait::async_trait]
impl kv_core::Clock for ClockWithoutTimer {
    fn now(&self) -> std::time::SystemTime {
        self.0.now()
    }

    async fn sleep(&self, _: Duration) {
        panic!("this clock has no timer");
    }
}

#[tokio::test]
async fn a_clock_without_a_timer_ends_the_task_and_every_call_works() {
    let clock = ManualClock::new();
    let store = MemoryStore::builder().clock(Arc::new(ClockWithoutTimer(clock.clone()))).build().unwrap();
    let idle = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    for number in 0..100 {
        put(&store, &key(number), "x", &ttl(1)).await;
        settle().await;
        assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), idle);
    }
    clock.advance(Duration::from_secs(1));
    assert_eq!(store.get(&key(0)).await.unwrap(), None);
    assert_eq!(store.sweep().await.unwrap(), 100);
}
