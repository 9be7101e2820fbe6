//! Single-flight with dropped callers, panics, ended runtimes, writes and cycles.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::{FutureExt, poll};
use kv_core::flight::{Fence, Flights};
use kv_core::{Clock, Error, ErrorKind, Key, KeyPrefix, ManualClock, Result};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Notify, Semaphore};

fn key(text: &str) -> Key {
    Key::new([text]).unwrap()
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(ManualClock::new())
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).build().unwrap()
}

/// Runs a test on its own thread and fails after 30 seconds. A timeout of the runtime would not help, because a
/// deadlock blocks it, too.
fn within_30_seconds(test: impl FnOnce() + Send + 'static) {
    let (end, ended) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        test();
        let _ = end.send(());
    });
    assert_ne!(ended.recv_timeout(Duration::from_secs(30)), Err(mpsc::RecvTimeoutError::Timeout), "a deadlock");
    thread.join().unwrap();
}

async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::task::yield_now().await;
    }
}

/// Yields often enough that every task reaches a point where it waits.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

#[test]
fn a_load_on_a_runtime_that_has_ended_is_unavailable() {
    within_30_seconds(|| {
        let (flights, ended) = (Flights::<u32>::default(), runtime());
        let handle = ended.handle().clone();
        drop(ended);
        for _ in 0..2 {
            let _entered = handle.enter();
            let (key, clock) = (key("k"), clock());
            let loaded =
                pin!(flights.run(&key, &clock, |_| async { Ok(1) })).poll(&mut Context::from_waker(Waker::noop()));
            let Poll::Ready(Err(error)) = loaded else { panic!("{loaded:?}") };
            assert_eq!(error.kind(), ErrorKind::Unavailable);
            assert!(flights.is_idle());
        }
        // A later call on a live runtime loads.
        assert_eq!(runtime().block_on(flights.run(&key("k"), &clock(), |_| async { Ok(2) })).unwrap(), 2);
    });
}

#[test]
fn a_loader_that_panics_before_its_future_exists_is_a_load_error() {
    within_30_seconds(|| {
        let flights = Flights::<u32>::default();
        let panics = |_: Fence| -> std::future::Ready<Result<u32>> { panic!("a defect of the loader") };
        let error = runtime().block_on(flights.run(&key("k"), &clock(), panics)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Load);
        assert!(flights.is_idle());
    });
}

#[test]
fn a_clock_that_cannot_sleep_is_a_load_error() {
    // This runtime has no timer.
    let flights = Flights::<u32>::default();
    let system: Arc<dyn Clock> = Arc::new(kv_core::SystemClock);
    let loader = |_| async {
        settle().await;
        Ok(1)
    };
    let error = runtime().block_on(flights.run(&key("k"), &system, loader)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Load);
    assert!(flights.is_idle());
}

/// Starts a load, and returns when the load has begun to store its value and waits for `go`.
async fn storing(flights: &Flights<u32>, go: &Arc<Notify>) -> tokio::task::JoinHandle<Result<u32>> {
    let (owned, go, is_storing) = (flights.clone(), Arc::clone(go), Arc::new(AtomicBool::new(false)));
    let started = Arc::clone(&is_storing);
    let caller = tokio::spawn(async move {
        let load = |fence: Fence| async move {
            let store = async {
                started.store(true, Ordering::SeqCst);
                go.notified().await;
            };
            fence.store(store).await;
            Ok(1)
        };
        owned.run(&key("k"), &clock(), load).await
    });
    until(|| is_storing.load(Ordering::SeqCst)).await;
    caller
}

#[tokio::test]
async fn every_write_waits_for_a_load_that_is_storing_its_value() {
    let (flights, go) = (Flights::default(), Arc::new(Notify::new()));
    let caller = storing(&flights, &go).await;
    let (k, all) = (key("k"), KeyPrefix::ALL);
    // The first write is dropped while it waits, as a timeout would do. The other writes come after it.
    assert!(poll!(pin!(flights.fence(&k))).is_pending());
    let mut second = pin!(flights.fence(&k));
    let mut clear = pin!(flights.fence_prefix(&all));
    assert!(!flights.is_idle());
    assert!(poll!(&mut second).is_pending(), "the load may store its value after the second write");
    assert!(poll!(&mut clear).is_pending(), "the load may store its value after the clear");
    // A caller that comes after a write starts a new load. The end of the new load does not let the writes continue.
    assert_eq!(flights.run(&k, &clock(), |_| async { Ok(2) }).await.unwrap(), 2);
    assert!(poll!(&mut second).is_pending());
    go.notify_one();
    second.await;
    clear.await;
    assert_eq!(caller.await.unwrap().unwrap(), 1);
    assert!(flights.is_idle());
}

#[tokio::test]
async fn a_load_after_a_write_counts_in_addition_to_the_fenced_load() {
    let (flights, go) = (Flights::<u32>::default(), Arc::new(Semaphore::new(0)));
    let keys: Vec<_> = (0..100).map(|number| key(&number.to_string())).collect();
    let clock = clock();
    // Each load is fenced while it runs, so that the next caller starts another load.
    let load = |go: Arc<Semaphore>| async move {
        drop(go.acquire().await);
        Ok(1)
    };
    let mut callers = Vec::new();
    for key in keys.iter().cycle().take(Flights::<u32>::MAX_LOADS) {
        let mut caller = Box::pin(flights.run(key, &clock, |_| load(Arc::clone(&go))));
        assert!(poll!(&mut caller).is_pending());
        assert!(flights.fence(key).now_or_never().is_some());
        callers.push(caller);
    }
    let error = flights.run(&keys[0], &clock, |_| load(Arc::clone(&go))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Capacity);
    go.add_permits(Flights::<u32>::MAX_LOADS);
    assert!(join_all(callers).await.iter().all(Result::is_ok));
    assert!(flights.is_idle());
}

#[tokio::test]
async fn ten_thousand_and_one_loads_free_their_values() {
    let (flights, go, value) = (Flights::default(), Arc::new(Semaphore::new(0)), Arc::new(()));
    let clock = clock();
    let keys: Vec<_> = (0..=Flights::<u32>::MAX_LOADS).map(|number| key(&number.to_string())).collect();
    let mut callers = Vec::new();
    for key in &keys {
        let (go, value) = (Arc::clone(&go), Arc::clone(&value));
        let load = |_| async move {
            drop(go.acquire().await);
            Ok(value)
        };
        callers.push(Box::pin(flights.run(key, &clock, load)));
        assert_eq!(poll!(callers.last_mut().unwrap()).is_ready(), callers.len() > Flights::<u32>::MAX_LOADS);
    }
    callers.pop();
    go.add_permits(Flights::<u32>::MAX_LOADS);
    assert_eq!(join_all(callers).await.iter().flatten().count(), Flights::<u32>::MAX_LOADS);
    assert!(flights.is_idle());
    until(|| Arc::strong_count(&value) == 1).await;
}

#[tokio::test]
async fn a_caller_dropped_after_any_number_of_polls_leaves_the_load_running() {
    let clock = clock();
    for polls in 0..20 {
        let (flights, runs, k) = (Flights::<usize>::default(), Arc::new(AtomicUsize::new(0)), key("k"));
        let load = |runs: Arc<AtomicUsize>| async move {
            let run = runs.fetch_add(1, Ordering::SeqCst);
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            Ok(run)
        };
        let mut caller = Box::pin(flights.run(&k, &clock, |_| load(Arc::clone(&runs))));
        let mut is_ready = false;
        for _ in 0..polls {
            is_ready = is_ready || poll!(&mut caller).is_ready();
            tokio::task::yield_now().await;
        }
        drop(caller);
        let has_ended = flights.is_idle();
        let next = flights.run(&k, &clock, |_| load(Arc::clone(&runs))).await.unwrap();
        assert_eq!(next, usize::from(has_ended && polls > 0), "{polls} polls");
        assert!(flights.is_idle());
    }
}

#[test]
fn callers_of_a_load_whose_runtime_ends_get_unavailable() {
    within_30_seconds(|| {
        let (flights, own, other) = (Flights::<u32>::default(), runtime(), runtime());
        let starter = flights.clone();
        let first = own.spawn(async move { starter.run(&key("k"), &clock(), |_| std::future::pending()).await });
        other.block_on(async {
            until(|| !flights.is_idle()).await;
            let (k, clock) = (key("k"), clock());
            let mut second = pin!(flights.run(&k, &clock, |_| async { Ok(2) }));
            assert!(poll!(&mut second).is_pending());
            tokio::task::spawn_blocking(|| drop(own)).await.unwrap();
            assert_eq!(second.await.unwrap_err().kind(), ErrorKind::Unavailable);
            assert!(first.await.is_err());
            assert!(flights.is_idle());
            assert_eq!(flights.run(&k, &clock, |_| async { Ok(3) }).await.unwrap(), 3);
        });
    });
}

#[tokio::test]
async fn a_loader_that_writes_its_own_key_ends_and_stores_nothing() {
    let (flights, has_stored) = (Flights::<u32>::default(), Arc::new(AtomicBool::new(false)));
    let (owned, stored) = (flights.clone(), Arc::clone(&has_stored));
    let load = |fence: Fence| async move {
        owned.fence(&key("k")).await;
        fence.store(async { stored.store(true, Ordering::SeqCst) }).await;
        Ok(1)
    };
    let loaded = tokio::time::timeout(Duration::from_secs(10), flights.run(&key("k"), &clock(), load)).await;
    assert_eq!(loaded.unwrap().unwrap(), 1);
    assert!(!has_stored.load(Ordering::SeqCst));
    assert!(flights.is_idle());
}

/// Loads `name`. The loader needs the values of all keys to which `name` points in `graph`.
fn load_graph(
    flights: Flights<u32>,
    graph: &'static [(&'static str, &'static [&'static str])],
    name: &'static str,
) -> futures_util::future::BoxFuture<'static, Result<u32>> {
    Box::pin(async move {
        let owned = flights.clone();
        let load = move |_| async move {
            tokio::task::yield_now().await;
            let needed = graph.iter().find(|(from, _)| *from == name).map_or(&[][..], |(_, needed)| *needed);
            let values = join_all(needed.iter().map(|name| load_graph(owned.clone(), graph, name))).await;
            values.into_iter().sum::<Result<u32>>().map(|sum| sum + 1)
        };
        flights.run(&key(name), &clock(), load).await
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loads_of_three_keys_in_a_cycle_end_with_invalid() {
    // The loader of `a` needs two keys at once, and the loads of both lead back to `a`.
    const CYCLE: &[(&str, &[&str])] = &[("a", &["b", "c"]), ("b", &["c"]), ("c", &["a"])];
    const DIAMOND: &[(&str, &[&str])] = &[("a", &["b", "c", "c"]), ("b", &["d"]), ("c", &["d", "b"])];
    for _ in 0..200 {
        let flights = Flights::default();
        let tasks = ["a", "b", "c"].map(|name| tokio::spawn(load_graph(flights.clone(), CYCLE, name)));
        for ended in tokio::time::timeout(Duration::from_secs(10), join_all(tasks)).await.unwrap() {
            assert_eq!(ended.unwrap().unwrap_err().kind(), ErrorKind::Invalid);
        }
        assert!(flights.is_idle());
        let tasks = ["c", "a", "b"].map(|name| tokio::spawn(load_graph(flights.clone(), DIAMOND, name)));
        for ended in tokio::time::timeout(Duration::from_secs(10), join_all(tasks)).await.unwrap() {
            ended.unwrap().unwrap();
        }
        assert!(flights.is_idle());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_loads_with_panics_drops_and_writes_leave_nothing() {
    let (flights, value) = (Flights::<Arc<usize>>::default(), Arc::new(7));
    let keys: Arc<Vec<_>> = Arc::new((0..50).map(|number| key(&number.to_string())).collect());
    let tasks = (0..8_usize).map(|task| {
        let (flights, value, keys) = (flights.clone(), Arc::clone(&value), Arc::clone(&keys));
        tokio::spawn(async move {
            let clock = clock();
            for round in 0..500 {
                let key = &keys[(round * 13 + task * 7) % keys.len()];
                let value = Arc::clone(&value);
                let mut caller = Box::pin(flights.run(key, &clock, |fence| async move {
                    tokio::task::yield_now().await;
                    assert!(round % 17 != 0, "a defect of the loader");
                    fence.store(tokio::task::yield_now()).await;
                    if round % 5 == 0 { Err(Error::denied("no")) } else { Ok(value) }
                }));
                match round % 3 {
                    0 => drop(poll!(&mut caller)),
                    1 => {
                        flights.fence(key).await;
                        drop(caller.await);
                    }
                    _ => drop(caller.await),
                }
            }
        })
    });
    for task in tokio::time::timeout(Duration::from_mins(1), join_all(tasks)).await.unwrap() {
        task.unwrap();
    }
    until(|| flights.is_idle()).await;
    until(|| Arc::strong_count(&value) == 1).await;
}

#[tokio::test]
async fn a_load_that_begins_during_a_write_stores_nothing() {
    let (flights, k, clock) = (Flights::<u32>::default(), key("k"), clock());
    let run = |go: &Arc<Notify>, value| {
        let go = Arc::clone(go);
        flights.run(&k, &clock, move |fence: Fence| async move {
            go.notified().await;
            Ok(if fence.store(async {}).await.is_some() { 0 } else { value })
        })
    };
    for by_prefix in [false, true] {
        let go = Arc::new(Notify::new());
        let write = if by_prefix {
            flights.write_prefix(KeyPrefix::ALL).await
        } else {
            flights.write(vec![key("other"), k.clone(), k.clone()]).await
        };
        let (mut during, mut joined) = (Box::pin(run(&go, 1)), Box::pin(run(&go, 2)));
        assert!(poll!(&mut during).is_pending() && poll!(&mut joined).is_pending());
        drop(write);
        let mut after = Box::pin(run(&go, 3));
        assert!(poll!(&mut after).is_pending());
        settle().await;
        go.notify_waiters();
        assert_eq!((during.await.unwrap(), joined.await.unwrap()), (1, 1));
        assert_eq!(after.await.unwrap(), 0, "a load after the write does not store its value");
        assert!(flights.is_idle());
    }
}
