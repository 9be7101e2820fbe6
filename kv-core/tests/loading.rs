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

/// What an application's own loader fails with.
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

/// Loads `value` when `go` says so, and tells by `runs` that it began.
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

/// Long enough for every task to come to rest.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_hundred_callers_run_one_loader() {
    let root = Tiny::new(FULL).kv();
    let (runs, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    // Clones and namespaces that were made apart are all the same handle.
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
async fn keys_and_namespaces_load_beside_each_other() {
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
async fn a_dropped_leader_hands_over_to_the_next() {
    let kv = Tiny::new(FULL).kv();
    let (runs, go, never) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()), Arc::new(Notify::new()));
    let leader = load(&kv, Ok(1), &runs, &never);
    until(|| runs.load(Ordering::SeqCst) == 1).await;
    let next = load(&kv, Ok(2), &runs, &go);
    settle().await;
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    leader.abort();
    go.notify_one();
    assert_eq!(next.await.unwrap(), Ok(2));
    assert_eq!(runs.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn an_erring_leader_hands_over_and_keeps_its_error() {
    let kv = Tiny::new(FULL).kv();
    let (runs, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let leader = load(&kv, Err(Failure::NotThere), &runs, &go);
    until(|| runs.load(Ordering::SeqCst) == 1).await;
    let next = load(&kv, Ok(2), &runs, &go);
    settle().await;
    go.notify_one();
    assert_eq!(leader.await.unwrap(), Err(Failure::NotThere));
    until(|| runs.load(Ordering::SeqCst) == 2).await;
    go.notify_one();
    assert_eq!(next.await.unwrap(), Ok(2));
    assert!(format!("{kv:?}").contains("Flights { len: 0, .. }"), "{kv:?}");
}

#[tokio::test]
async fn what_is_there_is_read_in_one_call_and_nothing_is_loaded() {
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
async fn what_somebody_else_stored_meanwhile_wins() {
    let store = Tiny::new(FULL);
    let (runs, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let caller = load(&store.kv(), Ok(1), &runs, &go);
    until(|| runs.load(Ordering::SeqCst) == 1).await;
    let elsewhere = store.set(&Key::new(["k"]).unwrap(), "2".into(), &SetOptions::default()).await;
    assert!(elsewhere.unwrap().is_stored());
    go.notify_one();
    assert_eq!(caller.await.unwrap(), Ok(2));
}

#[tokio::test]
async fn who_missed_the_end_of_a_load_does_not_load_again() {
    let store = Tiny::new(FULL);
    let (runs, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let answer = store.pause_next_get();
    let caller = load(&store.kv(), Ok(2), &runs, &go);
    until(|| store.calls() == ["get"]).await;
    // Its read has found nothing; before it gets on, another load comes to its end.
    store.kv().set(["k"], &1).await.unwrap();
    answer.notify_one();
    go.notify_one();
    assert_eq!(caller.await.unwrap(), Ok(1));
    assert_eq!(runs.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_store_without_conditions_is_loaded_all_the_same() {
    let kv = Tiny::new(CORE).kv();
    assert_eq!(kv.get_or_insert_with(["k"], async || Ok::<_, Error>(1)).await.unwrap(), 1);
    assert_eq!(kv.get_or_insert_with(["k"], async || Ok::<_, Error>(2)).await.unwrap(), 1);
}

#[tokio::test]
async fn a_loaded_value_lives_as_said_with_jitter_only_shorter() {
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
async fn a_loaded_nothing_is_kept_as_null() {
    let kv = Tiny::new(FULL).kv();
    assert_eq!(kv.get_or_insert_with(["k"], async || Ok::<_, Error>(None::<u8>)).await.unwrap(), None);
    assert_eq!(kv.get_or_insert_with(["k"], async || Ok::<_, Error>(Some(1_u8))).await.unwrap(), None);
}
