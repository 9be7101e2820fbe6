//! `get_or_insert_with`.

mod support;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kv_core::{Clock, Error, ErrorKind, Key, Kv, KvStore, SetOptions};
use support::{CORE, FULL, Tiny};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// The error type of an application's own loader.
#[derive(Debug, PartialEq)]
enum Failure {
    NotThere,
    Store(ErrorKind),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Store(error.kind())
    }
}

/// Starts a load of `value`. It increments `runs` when the loader starts, and waits for `go`.
fn load(
    kv: &Kv,
    value: Result<u32, Failure>,
    runs: &Arc<AtomicUsize>,
    go: &Arc<Notify>,
) -> JoinHandle<Result<u32, Failure>> {
    let (kv, runs, go) = (kv.clone(), Arc::clone(runs), Arc::clone(go));
    tokio::spawn(async move {
        let loader = || async move {
            runs.fetch_add(1, Ordering::SeqCst);
            go.notified().await;
            value
        };
        kv.get_or_insert_with(["k"], loader).await
    })
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

#[tokio::test]
async fn a_hundred_callers_run_one_loader() {
    let root = Tiny::new(FULL).kv();
    let (runs, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    // Namespaces that were created separately share the loads of the root handle.
    let callers: Vec<_> =
        (0..100).map(|number| load(&root.namespace(["app"]).unwrap(), Ok(number), &runs, &go)).collect();
    settle().await;
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    go.notify_one();
    let mut values = Vec::new();
    for caller in callers {
        values.push(caller.await.unwrap().unwrap());
    }
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    assert!(values.iter().all(|value| *value == values[0]));
    assert_eq!(root.get::<u32>(["app", "k"]).await.unwrap(), Some(values[0]));
}

#[tokio::test]
async fn different_keys_and_namespaces_load_concurrently() {
    let root = Tiny::new(FULL).kv();
    let (runs, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let callers = ["a", "b"].map(|name| load(&root.namespace([name]).unwrap(), Ok(1), &runs, &go));
    until(|| runs.load(Ordering::SeqCst) == 2).await;
    for caller in callers {
        go.notify_one();
        caller.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn after_a_dropped_load_the_next_caller_loads() {
    let kv = Tiny::new(FULL).kv();
    let (runs, go, never) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()), Arc::new(Notify::new()));
    let first = load(&kv, Ok(1), &runs, &never);
    until(|| runs.load(Ordering::SeqCst) == 1).await;
    let next = load(&kv, Ok(2), &runs, &go);
    settle().await;
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    first.abort();
    go.notify_one();
    assert_eq!(next.await.unwrap(), Ok(2));
    assert_eq!(runs.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn after_a_failed_load_the_next_caller_loads() {
    let kv = Tiny::new(FULL).kv();
    let (runs, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let first = load(&kv, Err(Failure::NotThere), &runs, &go);
    until(|| runs.load(Ordering::SeqCst) == 1).await;
    let next = load(&kv, Ok(2), &runs, &go);
    settle().await;
    go.notify_one();
    assert_eq!(first.await.unwrap(), Err(Failure::NotThere));
    until(|| runs.load(Ordering::SeqCst) == 2).await;
    go.notify_one();
    assert_eq!(next.await.unwrap(), Ok(2));
    assert!(format!("{kv:?}").contains("SingleFlight { len: 0, .. }"), "{kv:?}");
}

#[tokio::test]
async fn an_existing_value_is_read_in_one_call_without_a_load() {
    let store = Tiny::new(FULL);
    let kv = store.kv();
    kv.set(["k"], &7).await.unwrap();
    store.calls();
    let loaded = kv.get_or_insert_with(["k"], async || Err::<u32, _>(Failure::NotThere)).await;
    assert_eq!(loaded, Ok(7));
    assert_eq!(store.calls(), ["get"]);
    assert_eq!(
        kv.get_or_insert_with(["k"], async || Ok::<_, Failure>(true)).await,
        Err(Failure::Store(ErrorKind::Corrupt)),
    );
}

#[tokio::test]
async fn a_value_stored_meanwhile_wins_over_the_loaded_one() {
    let store = Tiny::new(FULL);
    let (runs, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let caller = load(&store.kv(), Ok(1), &runs, &go);
    until(|| runs.load(Ordering::SeqCst) == 1).await;
    let stored = store.set(&Key::new(["k"]).unwrap(), "2".into(), &SetOptions::default()).await;
    assert!(stored.unwrap().is_stored());
    go.notify_one();
    assert_eq!(caller.await.unwrap(), Ok(2));
}

#[tokio::test]
async fn a_caller_that_missed_the_end_of_a_load_does_not_load_again() {
    let store = Tiny::new(FULL);
    let (runs, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let resume = store.pause_next_get();
    let caller = load(&store.kv(), Ok(2), &runs, &go);
    until(|| store.calls() == ["get"]).await;
    // The caller's read has found nothing. Another load ends before the caller continues.
    store.kv().set(["k"], &1).await.unwrap();
    resume.notify_one();
    go.notify_one();
    assert_eq!(caller.await.unwrap(), Ok(1));
    assert_eq!(runs.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn loading_works_without_conditions() {
    let kv = Tiny::new(CORE).kv();
    assert_eq!(kv.get_or_insert_with(["k"], async || Ok::<_, Error>(1)).await.unwrap(), 1);
    assert_eq!(kv.get_or_insert_with(["k"], async || Ok::<_, Error>(2)).await.unwrap(), 1);
}

#[tokio::test]
async fn jitter_only_shortens_the_time_to_live_of_a_loaded_value() {
    let store = Tiny::new(FULL);
    let (kv, ttl) = (store.kv(), Duration::from_secs(100));
    for number in 0..50 {
        let key = ["k".to_owned(), number.to_string()];
        kv.get_or_insert_with(&key, async || Ok::<_, Error>(1)).ttl(ttl).ttl_jitter(0.5).await.unwrap();
        let entry = kv.get_entry(&key).await.unwrap().unwrap();
        let left = entry.expires.remaining(store.clock().now()).unwrap();
        assert!(left >= ttl / 2 && left <= ttl, "{left:?}");
    }
}

#[tokio::test]
async fn a_loaded_none_is_stored_as_null() {
    let kv = Tiny::new(FULL).kv();
    assert_eq!(kv.get_or_insert_with(["k"], async || Ok::<_, Error>(None::<u8>)).await.unwrap(), None);
    assert_eq!(kv.get_or_insert_with(["k"], async || Ok::<_, Error>(Some(1_u8))).await.unwrap(), None);
}
