//! `update` and `compare_and_swap`.

mod support;

use std::time::Duration;

use kv_core::{Capability, Clock, Error, Expiry};
use serde_json::{Value, json};
use support::{BY_VALUE, CORE, FULL, Tiny};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_tasks_lose_no_update() {
    for capabilities in [FULL, BY_VALUE] {
        let kv = Tiny::new(capabilities).kv();
        let tasks: Vec<_> = (0..16)
            .map(|_| {
                let kv = kv.clone();
                tokio::spawn(async move {
                    for _ in 0..100 {
                        kv.update(["n"], |n: Option<u64>| Some(n.unwrap_or(0) + 1)).await.unwrap();
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(kv.get::<u64>(["n"]).await.unwrap(), Some(1_600), "{capabilities:?}");
    }
}

#[tokio::test]
async fn an_update_creates_changes_and_removes() {
    let store = Tiny::new(FULL);
    let kv = store.kv();
    assert_eq!(kv.update(["k"], |old: Option<u8>| old).await.unwrap(), None);
    assert_eq!(store.calls(), ["get"]);
    assert_eq!(kv.update(["k"], |old: Option<u8>| Some(old.map_or(1, |old| old + 1))).await.unwrap(), Some(1));
    assert_eq!(kv.update(["k"], |old: Option<u8>| old.map(|old| old + 1)).await.unwrap(), Some(2));
    assert_eq!(store.calls(), ["get", "set", "get", "set"]);
    assert_eq!(kv.update(["k"], |_: Option<u8>| None).await.unwrap(), None);
    assert!(!kv.contains(["k"]).await.unwrap());
}

#[tokio::test]
async fn an_update_keeps_the_deadline_unless_it_sets_another_deadline() {
    let store = Tiny::new(FULL);
    let (clock, minute) = (store.clock(), Duration::from_secs(60));
    let kv = store.kv().with_default_expiry(Expiry::After(minute));
    let left = async || kv.get_entry(["k"]).await.unwrap().unwrap().expires.remaining(clock.now());
    let next = |old: Option<u8>| Some(old.unwrap_or(0) + 1);
    kv.update(["k"], next).await.unwrap();
    assert_eq!(left().await, Some(minute));
    clock.advance(minute / 2);
    kv.update(["k"], next).await.unwrap();
    assert_eq!(left().await, Some(minute / 2));
    kv.update(["k"], next).ttl(minute * 5).await.unwrap();
    assert_eq!(left().await, Some(minute * 5));
    kv.update(["k"], next).forever().await.unwrap();
    assert_eq!(left().await, None);
}

#[tokio::test]
async fn an_indeterminate_update_is_not_retried() {
    let store = Tiny::new(FULL);
    let kv = store.kv();
    store.fail_next_write(Error::indeterminate(None, "cut"));
    let error = kv.update(["n"], |n: Option<u8>| Some(n.unwrap_or(0) + 1)).await.unwrap_err();
    assert!(error.maybe_applied());
    assert_eq!(store.calls(), ["get", "set"]);
    assert_eq!(kv.get::<u8>(["n"]).await.unwrap(), Some(1));
}

#[tokio::test]
async fn an_update_without_conditions_is_unsupported_and_changes_nothing() {
    let kv = Tiny::new(CORE).kv();
    kv.set(["n"], &1).await.unwrap();
    let error = kv.update(["n"], |n: Option<u8>| n.map(|n| n + 1)).await.unwrap_err();
    assert_eq!(error.capability(), Some(Capability::Conditions));
    let error = kv.compare_and_swap(["n"], Some(&1), Some(&2)).await.unwrap_err();
    assert_eq!(error.capability(), Some(Capability::Conditions));
    assert_eq!(kv.get::<u8>(["n"]).await.unwrap(), Some(1));
}

#[tokio::test]
async fn a_swap_succeeds_only_if_the_current_value_is_expected() {
    let values = [None, Some(1), Some(2)];
    for capabilities in [FULL, BY_VALUE] {
        for current in values {
            for expected in values {
                for new in values {
                    let kv = Tiny::new(capabilities).kv();
                    if let Some(current) = current {
                        kv.set(["k"], &current).await.unwrap();
                    }
                    let swapped = kv.compare_and_swap(["k"], expected.as_ref(), new.as_ref()).await.unwrap();
                    assert_eq!(swapped, current == expected, "{current:?} {expected:?} {new:?}");
                    let after = if swapped { new } else { current };
                    assert_eq!(kv.get::<u8>(["k"]).await.unwrap(), after, "{current:?} {expected:?} {new:?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_swap_compares_values_instead_of_bytes() {
    for capabilities in [FULL, BY_VALUE] {
        let kv = Tiny::new(capabilities).kv();
        kv.set_bytes(["k"], "{ \"b\": [1, 2],\n \"a\": null }").await.unwrap();
        let (expected, new) = (json!({ "a": null, "b": [1, 2] }), json!({}));
        assert!(!kv.set(["k"], &new).if_value(&expected).await.unwrap().is_stored());
        assert!(!kv.compare_and_swap(["k"], Some(&json!({ "b": [1, 2] })), Some(&new)).await.unwrap());
        assert!(kv.compare_and_swap(["k"], Some(&expected), Some(&new)).await.unwrap());
        assert_eq!(kv.get::<Value>(["k"]).await.unwrap(), Some(new));
    }
}

#[tokio::test]
async fn a_swap_treats_a_stored_null_as_a_value() {
    let kv = Tiny::new(FULL).kv();
    kv.set(["k"], &None::<u8>).await.unwrap();
    assert!(!kv.compare_and_swap(["k"], None, Some(&Some(1_u8))).await.unwrap());
    assert!(kv.compare_and_swap(["k"], Some(&None), Some(&Some(1_u8))).await.unwrap());
    assert_eq!(kv.get::<Option<u8>>(["k"]).await.unwrap(), Some(Some(1)));
}

#[tokio::test]
async fn a_swap_retries_if_an_equal_value_was_written_in_between() {
    let store = Tiny::new(FULL);
    let kv = store.kv();
    kv.set(["k"], &1).await.unwrap();
    store.calls();
    let swap = tokio::spawn({
        let kv = kv.clone();
        async move { kv.compare_and_swap(["k"], Some(&1), Some(&2)).await.unwrap() }
    });
    // The store yields after a read, so this write happens between the swap's read and its write.
    while store.calls() != ["get"] {
        tokio::task::yield_now().await;
    }
    assert!(kv.set_bytes(["k"], " 1").if_present().await.unwrap().is_stored());
    assert!(swap.await.unwrap());
    assert_eq!(store.calls(), ["set", "set", "set"]);
    assert_eq!(kv.get::<u8>(["k"]).await.unwrap(), Some(2));
}

#[tokio::test]
async fn a_swap_writes_with_the_requested_time_to_live() {
    let store = Tiny::new(FULL);
    let kv = store.kv();
    assert!(kv.compare_and_swap(["k"], None, Some(&1)).ttl(Duration::from_secs(1)).await.unwrap());
    store.clock().advance(Duration::from_secs(1));
    assert!(kv.compare_and_swap(["k"], None::<&u8>, None).await.unwrap());
}
