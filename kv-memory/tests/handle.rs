//! The store handle: clones, executors, URLs, errors and closing.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use futures_util::StreamExt;
use kv_core::{
    Bytes, DeleteOptions, Error, ErrorKind, Expiry, IncrementOptions, Key, KeyPrefix, KvStore, ListQuery, NewExpiry,
    Operation, Registry, SetItem, SetOptions, StoreUrl, Transaction, WatchQuery, When,
};
use kv_memory::{EvictionPolicy, MemoryConfig, MemoryStore, SCHEME};

use self::common::{block_on, put, ttl};

fn key(text: &str) -> Key {
    Key::new([text]).unwrap()
}

fn engines() -> [MemoryStore; 2] {
    [MemoryStore::new(), MemoryStore::builder().max_bytes(1 << 30).build().unwrap()]
}

#[test]
fn reads_do_not_copy_values() {
    for store in engines() {
        let written = Bytes::from(vec![7; 1 << 20]);
        block_on(put(&store, &key("k"), written.clone(), &SetOptions::default()));
        let read = block_on(store.get(&key("k"))).unwrap().unwrap().value;
        assert_eq!(read.as_ptr(), written.as_ptr());
        let page = block_on(store.list(&ListQuery::default())).unwrap();
        assert_eq!(page.items[0].entry.as_ref().unwrap().value.as_ptr(), written.as_ptr());
    }
}

#[test]
fn every_operation_works_without_a_tokio_runtime() {
    for store in engines() {
        block_on(async {
            let ttl = SetOptions::default().with_expiry(Expiry::After(Duration::from_millis(1)));
            let mut watch = store.watch(&WatchQuery::prefix(KeyPrefix::ALL)).await?;
            let mut messages = store.subscribe(&KeyPrefix::ALL).await?;
            let _ = store.set(&key("a"), "1".into(), &ttl).await?;
            assert!(watch.next().await.is_some());
            store.publish(&key("channel"), "hello".into()).await?;
            assert!(messages.next().await.is_some());
            store.increment(&key("n"), 5, &IncrementOptions::default()).await?;
            assert_eq!(store.set_many(&[SetItem::new(key("b"), "2")]).await.len(), 1);
            if store.info().capabilities.has(kv_core::Capability::Transactions) {
                let check = Transaction::new().check(key("b"), When::Present).delete(key("b"));
                assert!(store.commit(&check).await?.is_committed());
            }
            while store.contains(&key("a")).await? {}
            assert_eq!(store.sweep().await?, 1);
            assert!(store.clear(&KeyPrefix::ALL).await? >= 1);
            assert_eq!(store.list(&ListQuery::default()).await?.items, []);
            store.close().await
        })
        .unwrap();
    }
}

#[test]
fn every_call_works_on_a_tokio_runtime_without_a_timer() {
    for store in engines() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            for _ in 0..10 {
                put(&store, &key("a"), "1", &ttl(60)).await;
                tokio::task::yield_now().await;
            }
            assert!(store.contains(&key("a")).await.unwrap());
        });
    }
}

#[tokio::test]
async fn clones_share_one_store() {
    for store in engines() {
        let clone = store.clone();
        put(&store, &key("a"), "1", &SetOptions::default()).await;
        assert_eq!(clone.get(&key("a")).await.unwrap().unwrap().value, "1");
        clone.close().await.unwrap();
        assert_eq!(store.get(&key("a")).await.unwrap_err().kind(), ErrorKind::Closed);
    }
}

#[tokio::test]
async fn closing_ends_open_streams_and_removes_the_entries() {
    for store in engines() {
        put(&store, &key("a"), "1", &ttl(60)).await;
        let watch = store.watch(&WatchQuery::prefix(KeyPrefix::ALL)).await.unwrap();
        let messages = store.subscribe(&KeyPrefix::ALL).await.unwrap();
        let (watch, messages) = (tokio::spawn(watch.count()), tokio::spawn(messages.count()));
        tokio::task::yield_now().await;
        store.close().await.unwrap();
        store.close().await.unwrap();
        assert_eq!((watch.await.unwrap(), messages.await.unwrap()), (0, 0));
        let stats = store.stats();
        assert_eq!((stats.entries, stats.deadlines, stats.ordered_keys), (0, 0, 0));
    }
}

#[tokio::test]
async fn after_closing_every_operation_fails_with_closed_and_the_error_names_the_operation() {
    for store in engines() {
        store.close().await.unwrap();
        let (key, is_closed) = (key("a"), |error: Error, operation: Operation| {
            assert_eq!((error.kind(), error.backend()), (ErrorKind::Closed, Some("memory")));
            assert_eq!(error.operation(), Some(operation));
        });
        is_closed(store.get(&key).await.unwrap_err(), Operation::Get);
        is_closed(store.set(&key, "x".into(), &SetOptions::default()).await.unwrap_err(), Operation::Set);
        is_closed(store.delete(&key, &DeleteOptions::default()).await.unwrap_err(), Operation::Delete);
        is_closed(store.contains(&key).await.unwrap_err(), Operation::Contains);
        is_closed(store.get_many(std::slice::from_ref(&key)).await.remove(0).unwrap_err(), Operation::GetMany);
        let item = SetItem::new(key.clone(), "x");
        is_closed(store.set_many(&[item]).await.remove(0).unwrap_err(), Operation::SetMany);
        is_closed(store.delete_many(std::slice::from_ref(&key)).await.remove(0).unwrap_err(), Operation::DeleteMany);
        is_closed(store.list(&ListQuery::default()).await.unwrap_err(), Operation::List);
        is_closed(store.clear(&KeyPrefix::ALL).await.unwrap_err(), Operation::Clear);
        is_closed(store.touch(&key, NewExpiry::Never).await.unwrap_err(), Operation::Touch);
        is_closed(store.increment(&key, 1, &IncrementOptions::default()).await.unwrap_err(), Operation::Increment);
        is_closed(store.commit(&Transaction::new()).await.unwrap_err(), Operation::Commit);
        is_closed(store.watch(&WatchQuery::key(key.clone())).await.err().unwrap(), Operation::Watch);
        is_closed(store.publish(&key, "x".into()).await.unwrap_err(), Operation::Publish);
        is_closed(store.subscribe(&KeyPrefix::ALL).await.err().unwrap(), Operation::Subscribe);
        is_closed(store.ping().await.unwrap_err(), Operation::Ping);
        is_closed(store.flush().await.unwrap_err(), Operation::Flush);
        is_closed(store.sweep().await.unwrap_err(), Operation::Sweep);
    }
}

#[tokio::test]
async fn errors_carry_operation_backend_and_key() {
    for store in engines() {
        put(&store, &key("a"), "x", &SetOptions::default()).await;
        let error = store.increment(&key("a"), 1, &IncrementOptions::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert_eq!((error.operation(), error.backend()), (Some(Operation::Increment), Some("memory")));
        assert_eq!(error.key(), Some(&key("a")));
    }
}

#[test]
fn a_url_is_read_into_a_configuration() {
    let config = |url: &str| MemoryConfig::from_url(&url.parse::<StoreUrl>().unwrap());
    assert_eq!(config("memory:").unwrap(), MemoryConfig::default());
    let full = config("memory:?max_bytes=64MiB&max_entries=1000&eviction_policy=tiny_lfu&sweep_interval=1s%20500ms");
    let full = full.unwrap();
    assert_eq!((full.max_bytes, full.max_entries), (Some(64 << 20), Some(1_000)));
    assert_eq!(full.eviction_policy, Some(EvictionPolicy::TinyLfu));
    assert_eq!(full.sweep_interval, Duration::from_millis(1_500));
    assert_eq!(config("memory:?max_bytes=67108864").unwrap().max_bytes, Some(64 << 20));
    for bad in [
        "memory:somewhere",
        "memory://",
        "memory:?max_byte=1",
        "memory:?max_bytes=",
        "memory:?max_bytes=much",
        "memory:?max_bytes=-1",
        "memory:?max_entries=many",
        "memory:?eviction_policy=fifo",
        "memory:?sweep_interval=soon",
    ] {
        assert_eq!(config(bad).unwrap_err().kind(), ErrorKind::Invalid, "{bad}");
    }
}

#[tokio::test]
async fn the_scheme_creates_a_new_store_each_time() {
    let registry = Registry::new().with(SCHEME);
    let url: StoreUrl = "memory:".parse().unwrap();
    let (one, other) = (registry.open_store(url.clone()).await.unwrap(), registry.open_store(url).await.unwrap());
    assert!(one.set(&key("a"), "1".into(), &SetOptions::default()).await.unwrap().is_stored());
    assert!(!other.contains(&key("a")).await.unwrap());
    let error = registry.open_store("memory:?max_bytes=1KiB".parse().unwrap()).await.unwrap_err();
    assert_eq!((error.kind(), error.operation()), (ErrorKind::Invalid, Some(Operation::Open)));
    // The usage text of the scheme is a valid URL.
    registry.open_store(SCHEME.usage.parse().unwrap()).await.unwrap();
}

#[tokio::test]
async fn debug_output_contains_no_value() {
    for store in engines() {
        put(&store, &key("name"), "canary", &SetOptions::default()).await;
        assert!(!format!("{store:#?}").contains("canary"));
    }
}
