//! The number of allocations of the hot paths of the in-memory store.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use kv_core::{Key, Kv, KvStore, SetOptions};
use kv_memory::MemoryStore;

fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("no future here is pending")
}

/// Counts the allocations of a second call, because the first call may build caches.
fn allocations(mut call: impl FnMut()) -> u64 {
    call();
    allocation_counter::measure(call).count_total
}

fn filled() -> (Arc<dyn KvStore>, Key) {
    let (store, key): (Arc<dyn KvStore>, _) = (Arc::new(MemoryStore::new()), Key::new(["users", "1"]).unwrap());
    assert!(now(store.set(&key, Bytes::from(vec![7; 100]), &SetOptions::default())).unwrap().is_stored());
    (store, key)
}

#[test]
fn a_hit_and_a_miss_allocate_only_the_future() {
    let (store, key) = filled();
    let missing = Key::new(["users", "2"]).unwrap();
    assert_eq!(allocations(|| drop(black_box(now(store.get(&key)).unwrap().unwrap()))), 1);
    assert_eq!(allocations(|| assert!(now(store.get(&missing)).unwrap().is_none())), 1);
}

#[test]
fn an_overwrite_allocates_only_the_future() {
    let (store, key) = filled();
    let value = Bytes::from_static(b"value");
    let overwrite = || assert!(now(store.set(&key, value.clone(), &SetOptions::default())).unwrap().is_stored());
    assert_eq!(allocations(overwrite), 1);
}

#[test]
fn the_handle_adds_no_allocation_for_a_short_key_and_one_allocation_for_a_long_key() {
    let (store, _) = filled();
    let kv = Kv::new(store);
    assert_eq!(allocations(|| drop(black_box(now(kv.get_bytes(["users", "1"])).unwrap().unwrap()))), 1);
    let long = ["users", "a segment that is too long to be stored inline"];
    assert_eq!(allocations(|| assert!(now(kv.get_bytes(long)).unwrap().is_none())), 2);
}

#[test]
fn a_namespace_adds_the_allocation_of_a_future() {
    let (store, _) = filled();
    let kv = Kv::new(store).namespace(["app"]).unwrap();
    assert_eq!(allocations(|| assert!(now(kv.get_bytes(["users", "1"])).unwrap().is_none())), 2);
}
