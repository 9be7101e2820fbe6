//! Eviction by the bounded engine, and the consistency of its indexes.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use kv_core::{
    Bytes, Capability, DeleteOptions, ErrorKind, Key, KeyPrefix, KvStore, Limits, ListItem, ListQuery, SetOptions,
    Transaction, WatchEvent, WatchQuery,
};
use kv_memory::{BOUNDED_CAPABILITIES, EvictionPolicy, MemoryConfig, MemoryStore};

use self::common::ttl;

fn key(number: usize) -> Key {
    Key::new(["k", &format!("{number:07}")]).unwrap()
}

async fn put(store: &MemoryStore, number: usize, value: impl Into<Bytes>) {
    common::put(store, &key(number), value, &SetOptions::default()).await;
}

/// Returns all items, listed page by page.
async fn items(store: &MemoryStore) -> Vec<ListItem> {
    let (mut items, mut query) = (Vec::new(), ListQuery::default());
    loop {
        let page = store.list(&query).await.unwrap();
        items.extend(page.items);
        match page.next {
            Some(next) => query = query.resume(next),
            None => return items,
        }
    }
}

/// Returns all keys, listed page by page. Asserts that `get` returns the listed entry of each key. Therefore the caller
/// must have run the maintenance of the store.
async fn list(store: &MemoryStore) -> Vec<Key> {
    let mut keys = Vec::new();
    for item in items(store).await {
        assert!(
            store.get(&item.key).await.unwrap() == item.entry,
            "{} is listed, but `get` returns another entry",
            item.key
        );
        keys.push(item.key);
    }
    keys
}

#[tokio::test]
async fn a_store_keeps_max_entries_and_evicts_the_least_recently_used_entry() {
    let store = MemoryStore::builder().max_entries(1_000).build().unwrap();
    for number in 0..1_000 {
        put(&store, number, "x").await;
    }
    store.sweep().await.unwrap();
    assert_eq!(store.stats().entries, 1_000);
    // A read is a use, so the store evicts other entries.
    for number in 0..100 {
        assert!(store.get(&key(number)).await.unwrap().is_some());
    }
    store.sweep().await.unwrap();
    for number in 1_000..1_500 {
        put(&store, number, "x").await;
    }
    store.sweep().await.unwrap();
    let expected: Vec<_> = (0..100).chain(600..1_500).map(key).collect();
    assert_eq!(list(&store).await, expected);
    assert_eq!((store.stats().entries, store.stats().ordered_keys), (1_000, 1_000));
}

#[tokio::test]
async fn an_lru_store_keeps_the_entry_that_was_just_written() {
    let store = MemoryStore::builder().max_entries(100).build().unwrap();
    for number in 0..5_000 {
        put(&store, number, "x").await;
        assert!(store.get(&key(number)).await.unwrap().is_some());
        // Read the earlier entries more often than the entry that was just written.
        for distance in 1..10_usize.min(number) {
            store.get(&key(number - distance)).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_store_keeps_max_bytes_with_small_and_large_values() {
    const MAX: usize = 32 << 20;
    let store = MemoryStore::builder().max_bytes(MAX as u64).build().unwrap();
    let stored_bytes = async |largest: usize| {
        let size = |item: ListItem| item.key.as_str().len() + item.entry.unwrap().value.len();
        let bytes: usize = items(&store).await.into_iter().map(size).sum();
        assert!(bytes <= MAX + MAX / 8 + largest, "{bytes}");
        bytes
    };
    // Do not call `sweep` between the writes, because the bound must also hold without it.
    for number in 0..40 {
        put(&store, number, vec![1; 8 << 20]).await;
        stored_bytes(8 << 20).await;
    }
    assert!(stored_bytes(8 << 20).await >= 16 << 20);
    for number in 100..60_100 {
        put(&store, number, vec![1; 1_000]).await;
    }
    stored_bytes(1_000).await;
    store.sweep().await.unwrap();
    assert!(stored_bytes(0).await > MAX / 2);
}

#[tokio::test]
async fn evicted_keys_are_removed_from_every_index_without_a_sweep() {
    let store = MemoryStore::builder().max_entries(1_000).build().unwrap();
    for number in 0..50_000 {
        common::put(&store, &key(number), "x", &ttl(3_600)).await;
    }
    let stats = store.stats();
    assert!(stats.ordered_keys < 2_500, "{stats:?}");
    assert!(stats.deadlines < 2_500, "{stats:?}");
    store.sweep().await.unwrap();
    let stats = store.stats();
    assert_eq!((stats.entries, stats.deadlines, stats.ordered_keys), (1_000, 1_000, 1_000));
}

#[tokio::test]
async fn deleted_keys_are_removed_from_the_ordered_index() {
    let store = MemoryStore::builder().max_entries(10_000).build().unwrap();
    for number in 0..5_000 {
        put(&store, number, "x").await;
    }
    for number in 0..4_000 {
        assert!(store.delete(&key(number), &DeleteOptions::default()).await.unwrap().is_deleted());
    }
    assert!(store.stats().ordered_keys <= 1_002, "{:?}", store.stats());
    assert_eq!(list(&store).await.len(), 1_000);
    assert_eq!(store.clear(&KeyPrefix::ALL).await.unwrap(), 1_000);
    assert_eq!(list(&store).await, []);
}

#[tokio::test]
async fn watchers_are_notified_of_evictions() {
    let store = MemoryStore::builder().max_entries(10).build().unwrap();
    for number in 0..10 {
        put(&store, number, "x").await;
    }
    let mut watch = store.watch(&WatchQuery::key(key(0))).await.unwrap();
    for number in 10..20 {
        put(&store, number, "x").await;
    }
    store.sweep().await.unwrap();
    let event = watch.next().now_or_never().expect("the watcher was notified of the eviction").unwrap().unwrap();
    assert_eq!(event, WatchEvent::Removed { key: key(0) });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_key_that_is_set_again_during_its_eviction_is_listed() {
    let store = MemoryStore::builder().max_entries(64).build().unwrap();
    let writers = (0..4).map(|seed| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut number = seed;
            for _ in 0..20_000 {
                number = (number * 31 + 7) % 257;
                put(&store, number, "x").await;
                if number % 5 == 0 {
                    let _ = store.delete(&key(number), &DeleteOptions::default()).await.unwrap();
                }
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    store.sweep().await.unwrap();
    let mut live = Vec::new();
    for number in 0..257 {
        if store.contains(&key(number)).await.unwrap() {
            live.push(key(number));
        }
    }
    assert_eq!(list(&store).await, live);
    assert_eq!(store.stats().ordered_keys, live.len());
}

#[tokio::test]
async fn a_write_whose_future_is_dropped_at_an_await_leaves_no_key_in_the_ordered_index() {
    let store = MemoryStore::builder().max_entries(100).build().unwrap();
    for number in 0..10_000 {
        // Poll each future once: some futures complete, and the others are dropped at an `.await`.
        let _ = store.set(&key(number), "x".into(), &SetOptions::default()).now_or_never();
    }
    store.sweep().await.unwrap();
    let stats = store.stats();
    assert_eq!(stats.ordered_keys, stats.entries);
    assert_eq!(list(&store).await.len(), stats.entries);
}

#[tokio::test]
async fn a_value_over_max_bytes_is_invalid_and_does_not_replace_the_old_value() {
    let store = MemoryStore::builder().max_bytes(MemoryConfig::MIN_BYTES).build().unwrap();
    assert_eq!(store.info().limits.max_value_bytes, Limits::MIN_VALUE_BYTES);
    put(&store, 1, vec![7; 8 << 20]).await;
    let error = store.set(&key(1), vec![8; (8 << 20) + 1].into(), &SetOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(store.get(&key(1)).await.unwrap().unwrap().value == vec![7; 8 << 20]);
}

#[tokio::test]
async fn bounds_are_checked_when_the_store_is_built() {
    let error_of = |builder: kv_memory::MemoryBuilder| builder.build().unwrap_err().to_string();
    let error = error_of(MemoryStore::builder().max_bytes(8 << 20));
    assert!(error.contains("8388608") && error.contains(&MemoryConfig::MIN_BYTES.to_string()), "{error}");
    assert!(error_of(MemoryStore::builder().max_entries(0)).contains("max_entries"));
    assert!(error_of(MemoryStore::builder().eviction_policy(EvictionPolicy::Lru)).contains("max_bytes"));
    assert!(error_of(MemoryStore::builder().sweep_interval(Duration::ZERO)).contains("interval"));
}

#[tokio::test]
async fn a_bounded_store_declares_no_locks_and_no_transactions() {
    let store = MemoryStore::builder().max_entries(10).eviction_policy(EvictionPolicy::TinyLfu).build().unwrap();
    assert_eq!(store.info().capabilities, BOUNDED_CAPABILITIES);
    assert!(!BOUNDED_CAPABILITIES.has(Capability::Locks));
    let error = store.commit(&Transaction::new().delete(key(1))).await.unwrap_err();
    assert_eq!(error.capability(), Some(Capability::Transactions));
}
