//! Calls take part in the cooperative budget of tokio, so that a loop of ready calls does not block other tasks.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use kv_core::{
    BoxFuture, Clock, DeleteOptions, Expiry, IncrementOptions, Key, KeyPrefix, KvStore, ListQuery, NewExpiry, SetItem,
    SetOptions, SystemClock, Transaction,
};
use kv_memory::MemoryStore;
use tokio::runtime::{Builder, Runtime};

use self::common::put;

/// The timeout of the timer and the sweeper. Both need some hundredths of a second. Without yields, neither ever runs.
const TIME_LIMIT: Duration = Duration::from_secs(20);

/// The number of entries under the prefix `items`.
const ENTRIES: usize = 100;

fn key(text: &str) -> Key {
    Key::new([text]).unwrap()
}

fn item(number: usize) -> Key {
    Key::new(["items", &number.to_string()]).unwrap()
}

fn engines() -> [MemoryStore; 2] {
    [MemoryStore::builder(), MemoryStore::builder().max_bytes(1 << 30)]
        .map(|builder| builder.sweep_interval(Duration::from_millis(20)).build().unwrap())
}

/// Runs tight loops over `get` and `set` in `tasks` tasks. Asserts that in the meantime a timer fires ten times and the
/// sweeper frees an expired entry.
fn run_loops(runtime: &Runtime, store: &MemoryStore, tasks: usize) {
    let (stop, (fired, has_fired)) = (Arc::new(AtomicBool::new(false)), std::sync::mpsc::channel());
    let on_runtime = {
        let (store, stop) = (store.clone(), Arc::clone(&stop));
        async move {
            let in_50_ms = SetOptions::default().with_expiry(Expiry::After(Duration::from_millis(50)));
            put(&store, &key("expires"), "x", &in_50_ms).await;
            for number in 0..tasks {
                let (store, stop) = (store.clone(), Arc::clone(&stop));
                tokio::spawn(async move {
                    while !stop.load(Ordering::Relaxed) {
                        put(&store, &item(number), "x", &SetOptions::default()).await;
                        store.get(&item(number)).await.unwrap();
                    }
                });
            }
            for _ in 0..10 {
                SystemClock.sleep(Duration::from_millis(10)).await;
            }
            while store.stats().deadlines > 0 {
                SystemClock.sleep(Duration::from_millis(10)).await;
            }
            // If the loops have run for too long, the watchdog has ended and sending fails.
            let _ = fired.send(());
        }
    };
    let (ended, stopper) = (has_fired, Arc::clone(&stop));
    let watchdog = std::thread::spawn(move || {
        let outcome = ended.recv_timeout(TIME_LIMIT);
        stopper.store(true, Ordering::Relaxed);
        outcome
    });
    // The thread that calls `block_on` is not a worker, so run everything in a task.
    runtime.block_on(async { tokio::spawn(on_runtime).await }).unwrap();
    watchdog.join().unwrap().expect("the timer and the sweeper run beside the loops");
}

#[test]
fn timers_and_the_sweeper_run_beside_eight_tight_loops_on_two_workers() {
    for store in engines() {
        run_loops(&Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap(), &store, 8);
    }
}

#[test]
fn timers_and_the_sweeper_run_beside_two_tight_loops_on_one_thread() {
    for store in engines() {
        run_loops(&Builder::new_current_thread().enable_time().build().unwrap(), &store, 2);
    }
}

type Call = (&'static str, fn(&MemoryStore) -> BoxFuture<'_, ()>);

/// One call of every operation that a loop can repeat.
const CALLS: &[Call] = &[
    ("get", |store| Box::pin(async { drop(store.get(&item(1)).await.unwrap()) })),
    ("get of an absent key", |store| Box::pin(async { drop(store.get(&key("absent")).await.unwrap()) })),
    ("set", |store| Box::pin(async { put(store, &item(1), "x", &SetOptions::default()).await })),
    ("delete", |store| {
        Box::pin(async { drop(store.delete(&key("absent"), &DeleteOptions::default()).await.unwrap()) })
    }),
    ("contains", |store| Box::pin(async { assert!(store.contains(&item(1)).await.unwrap()) })),
    ("get_many", |store| Box::pin(async { assert!(store.get_many(&[item(1)]).await[0].is_ok()) })),
    ("set_many", |store| Box::pin(async { assert!(store.set_many(&[SetItem::new(item(1), "x")]).await[0].is_ok()) })),
    ("delete_many", |store| Box::pin(async { assert!(store.delete_many(&[key("absent")]).await[0].is_ok()) })),
    ("list", |store| {
        Box::pin(async { drop(store.list(&ListQuery::new(KeyPrefix::new(["items"]).unwrap())).await.unwrap()) })
    }),
    ("list of nothing", |store| {
        Box::pin(async { drop(store.list(&ListQuery::new(KeyPrefix::new(["absent"]).unwrap())).await.unwrap()) })
    }),
    ("clear", |store| {
        Box::pin(async { assert_eq!(store.clear(&KeyPrefix::new(["absent"]).unwrap()).await.unwrap(), 0) })
    }),
    ("touch", |store| Box::pin(async { assert!(store.touch(&item(1), NewExpiry::Never).await.unwrap()) })),
    ("increment", |store| {
        Box::pin(async { assert!(store.increment(&key("n"), 1, &IncrementOptions::default()).await.is_ok()) })
    }),
    // The bounded engine refuses a commit, so ignore the result.
    ("commit", |store| Box::pin(async { drop(store.commit(&Transaction::new().delete(key("absent"))).await) })),
    ("publish", |store| Box::pin(async { store.publish(&key("channel"), "x".into()).await.unwrap() })),
    ("ping", |store| Box::pin(async { store.ping().await.unwrap() })),
    ("flush", |store| Box::pin(async { store.flush().await.unwrap() })),
    ("sweep", |store| Box::pin(async { assert_eq!(store.sweep().await.unwrap(), 0) })),
];

#[test]
fn a_loop_over_any_operation_yields() {
    for store in engines() {
        let runtime = Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            for number in 0..ENTRIES {
                put(&store, &item(number), "x", &SetOptions::default()).await;
            }
            for (name, call) in CALLS {
                let other = tokio::spawn(async {});
                let mut calls = 0;
                while !other.is_finished() {
                    call(&store).await;
                    calls += 1;
                    assert!(calls <= 3_000, "{name} never yields");
                }
            }
        });
    }
}

#[test]
fn one_call_over_many_keys_yields() {
    let keys: Vec<_> = (0..10_000).map(item).collect();
    let items: Vec<_> = keys.iter().map(|key| SetItem::new(key.clone(), "x")).collect();
    for store in engines() {
        let runtime = Builder::new_current_thread().build().unwrap();
        let yields = |name: &str, call: BoxFuture<'_, ()>| {
            let is_pending = runtime.block_on(async { call.now_or_never().is_none() });
            assert!(is_pending, "{name} does not yield");
        };
        yields("set_many", Box::pin(async { drop(store.set_many(&items).await) }));
        runtime.block_on(async { drop(store.set_many(&items).await) });
        yields("get_many", Box::pin(async { drop(store.get_many(&keys).await) }));
        yields("list", Box::pin(async { drop(store.list(&ListQuery::default()).await) }));
        yields("delete_many", Box::pin(async { drop(store.delete_many(&keys).await) }));
    }
}

#[test]
fn the_first_thousand_calls_of_a_task_do_not_yield() {
    let store = MemoryStore::new();
    let runtime = Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        for number in 0..1_000 {
            let read = store.get(&item(number)).now_or_never();
            assert!(read.is_some(), "call {number} yields");
        }
    });
}
