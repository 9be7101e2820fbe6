//! `get_or_insert_with`.

mod support;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kv_core::{Clock, DeleteOptions, Error, ErrorKind, Key, Kv, KvStore, SetOptions};
use support::{CORE, FULL, Tiny};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// The error type of an application's own loader.
#[derive(Debug, PartialEq)]
struct NotThere;

impl fmt::Display for NotThere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not there")
    }
}

impl std::error::Error for NotThere {}

/// Starts a load of `value`. The loader increments `runs` when it starts, and waits for `go`.
fn load(
    kv: &Kv,
    value: Result<u32, NotThere>,
    runs: &Arc<AtomicUsize>,
    go: &Arc<Notify>,
) -> JoinHandle<Result<u32, Error>> {
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
async fn a_load_continues_without_its_callers() {
    let kv = Tiny::new(FULL).kv();
    let (runs, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let first = load(&kv, Ok(1), &runs, &go);
    until(|| runs.load(Ordering::SeqCst) == 1).await;
    first.abort();
    let next = load(&kv, Ok(2), &runs, &go);
    settle().await;
    go.notify_one();
    assert_eq!(next.await.unwrap().unwrap(), 1);
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_caller_that_is_no_longer_polled_blocks_no_other_caller() {
    let kv = Tiny::new(FULL).kv();
    let (runs, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let (started, wait) = (Arc::clone(&runs), Arc::clone(&go));
    let loader = move || async move {
        started.fetch_add(1, Ordering::SeqCst);
        wait.notified().await;
        Ok::<_, Error>(1)
    };
    let mut first = kv.get_or_insert_with(["k"], loader).into_future();
    while runs.load(Ordering::SeqCst) == 0 {
        assert!(futures_util::poll!(&mut first).is_pending());
        settle().await;
    }
    // From here on the first caller is not polled.
    let second = load(&kv, Ok(2), &runs, &go);
    settle().await;
    go.notify_one();
    assert_eq!(tokio::time::timeout(Duration::from_secs(10), second).await.unwrap().unwrap().unwrap(), 1);
    assert_eq!(first.await.unwrap(), 1);
}

#[tokio::test]
async fn three_hundred_callers_share_one_failure() {
    let kv = Tiny::new(FULL).kv();
    let (runs, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let callers: Vec<_> = (0..300).map(|_| load(&kv, Err(NotThere), &runs, &go)).collect();
    settle().await;
    go.notify_one();
    for caller in callers {
        let error = caller.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Load);
        assert_eq!(error.load_error(), Some(&NotThere));
        assert_eq!(error.key(), Some(&Key::new(["k"]).unwrap()));
    }
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    // A later caller loads again.
    go.notify_one();
    assert_eq!(load(&kv, Ok(2), &runs, &go).await.unwrap().unwrap(), 2);
    assert!(format!("{kv:?}").contains("Flights { len: 0, .. }"), "{kv:?}");
}

#[tokio::test]
async fn a_panic_of_the_loader_is_an_error_of_its_callers() {
    let kv = Tiny::new(FULL).kv();
    let loaded =
        kv.get_or_insert_with(["k"], async || -> Result<u32, Error> { panic!("a defect of the loader") }).await;
    assert_eq!(loaded.unwrap_err().kind(), ErrorKind::Load);
    assert_eq!(kv.get_or_insert_with(["k"], async || Ok::<_, Error>(1)).await.unwrap(), 1);
}

#[tokio::test]
async fn an_error_of_the_store_keeps_its_kind() {
    let kv = Tiny::new(FULL).kv();
    let loaded = kv.get_or_insert_with(["k"], async || Err::<u32, _>(Error::denied("no"))).await;
    assert_eq!(loaded.unwrap_err().kind(), ErrorKind::Denied);
}

#[tokio::test]
async fn a_loader_that_needs_its_own_key_fails_at_once() {
    let kv = Tiny::new(FULL).kv();
    let again = kv.clone();
    let loaded = kv.get_or_insert_with(["k"], move || async move {
        again.get_or_insert_with(["k"], async || Ok::<u32, Error>(1)).await
    });
    let loaded = tokio::time::timeout(Duration::from_secs(10), loaded.into_future()).await.unwrap();
    assert_eq!(loaded.unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn loaders_that_need_each_others_keys_fail_at_once() {
    let kv = Tiny::new(FULL).kv();
    let (inner, outer) = (kv.clone(), kv.clone());
    let loaded = kv.get_or_insert_with(["a"], move || async move {
        inner
            .get_or_insert_with(["b"], move || async move {
                outer.get_or_insert_with(["a"], async || Ok::<u32, Error>(1)).await
            })
            .await
    });
    let loaded = tokio::time::timeout(Duration::from_secs(10), loaded.into_future()).await.unwrap();
    assert_eq!(loaded.unwrap_err().kind(), ErrorKind::Invalid);
    // A loader may need the value of another key.
    let inner = kv.clone();
    let loaded = kv.get_or_insert_with(["c"], move || async move {
        inner.get_or_insert_with(["d"], async || Ok::<u32, Error>(4)).await
    });
    assert_eq!(loaded.await.unwrap(), 4);
}

#[tokio::test]
async fn a_loader_that_never_ends_fails_at_the_deadline() {
    let store = Tiny::new(FULL);
    let kv = store.kv().with_clock(Arc::new(store.clock().clone()));
    let (runs, never) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let caller = load(&kv, Ok(1), &runs, &never);
    until(|| runs.load(Ordering::SeqCst) == 1).await;
    settle().await;
    store.clock().advance(Duration::from_secs(31));
    assert_eq!(caller.await.unwrap().unwrap_err().kind(), ErrorKind::Load);
}

#[tokio::test]
async fn a_load_does_not_undo_a_write_that_came_during_the_load() {
    for write in ["delete", "set", "clear", "delete_many", "commit"] {
        let kv = Tiny::new(FULL).kv();
        let (runs, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let caller = load(&kv, Ok(1), &runs, &go);
        until(|| runs.load(Ordering::SeqCst) == 1).await;
        match write {
            "delete" => drop(kv.delete(["k"]).await.unwrap()),
            "set" => {
                let _ = kv.set(["k"], &2).await.unwrap();
                let _ = kv.store().delete(&Key::new(["k"]).unwrap(), &DeleteOptions::default()).await.unwrap();
            }
            "clear" => drop(kv.clear(()).await.unwrap()),
            "delete_many" => drop(kv.delete_many([["k"]]).await.all().unwrap()),
            // The store of this test has no transactions, so the commit fails. Nevertheless, the load must not store
            // its value.
            _ => drop(kv.transaction().delete(["k"]).commit().await),
        }
        go.notify_one();
        assert_eq!(caller.await.unwrap().unwrap(), 1, "{write}");
        assert_eq!(kv.get::<u32>(["k"]).await.unwrap(), None, "{write}");
    }
}

#[tokio::test]
async fn a_caller_after_a_write_does_not_join_the_earlier_load() {
    let kv = Tiny::new(FULL).kv();
    let (runs, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let before = load(&kv, Ok(1), &runs, &go);
    until(|| runs.load(Ordering::SeqCst) == 1).await;
    let _ = kv.delete(["k"]).await.unwrap();
    assert_eq!(kv.get_or_insert_with(["k"], async || Ok::<_, Error>(2)).await.unwrap(), 2);
    go.notify_one();
    assert_eq!(before.await.unwrap().unwrap(), 1);
    assert_eq!(kv.get::<u32>(["k"]).await.unwrap(), Some(2));
}

#[tokio::test]
async fn an_existing_value_is_read_in_one_call_without_a_load() {
    let store = Tiny::new(FULL);
    let kv = store.kv();
    kv.set(["k"], &7).await.unwrap();
    store.calls();
    let loaded = kv.get_or_insert_with(["k"], async || Err::<u32, _>(NotThere)).await;
    assert_eq!(loaded.unwrap(), 7);
    assert_eq!(store.calls(), ["get"]);
    let other_type = kv.get_or_insert_with(["k"], async || Ok::<_, NotThere>(true)).await;
    assert_eq!(other_type.unwrap_err().kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn a_value_that_is_stored_during_a_load_is_returned_instead_of_the_loaded_value() {
    let store = Tiny::new(FULL);
    let (runs, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let caller = load(&store.kv(), Ok(1), &runs, &go);
    until(|| runs.load(Ordering::SeqCst) == 1).await;
    let stored = store.set(&Key::new(["k"]).unwrap(), "2".into(), &SetOptions::default()).await;
    assert!(stored.unwrap().is_stored());
    go.notify_one();
    assert_eq!(caller.await.unwrap().unwrap(), 2);
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
    assert_eq!(caller.await.unwrap().unwrap(), 1);
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

#[tokio::test]
async fn a_load_that_begins_during_a_write_does_not_overwrite_the_written_value() {
    for capabilities in [CORE, FULL] {
        for write in ["set", "set_many", "clear"] {
            let kv = Tiny::new(capabilities.with_list(kv_core::List::Native)).kv();
            let (runs, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
            let mut writing: kv_core::BoxFuture<'_, ()> = Box::pin(async {
                match write {
                    "set" => drop(kv.set(["k"], &2).await.unwrap()),
                    "set_many" => drop(kv.set_many([(["k"], 2)]).await.all().unwrap()),
                    _ => drop(kv.clear(()).await.unwrap()),
                }
            });
            // The write has stopped the earlier loads, and the store has not applied it yet.
            assert!(futures_util::poll!(&mut writing).is_pending());
            let caller = load(&kv, Ok(1), &runs, &go);
            until(|| runs.load(Ordering::SeqCst) == 1).await;
            writing.await;
            go.notify_one();
            let loaded = caller.await.unwrap().unwrap();
            let stored = kv.get::<u32>(["k"]).await.unwrap();
            match (write, capabilities == CORE) {
                ("clear", true) => assert_eq!((loaded, stored), (1, None)),
                ("clear", false) => assert_eq!((loaded, stored), (1, Some(1))),
                _ => assert_eq!(stored, Some(2), "{write}: the load replaced the written value by {loaded}"),
            }
        }
    }
}
