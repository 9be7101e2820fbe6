//! Counts allocations. This is a separate program, because counting would slow down every other measurement.
//!
//! Prints one JSON object that maps the name of a measurement to allocations per operation or bytes per entry.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed measurement panics")]
#![allow(clippy::cast_precision_loss, reason = "averages need no exact integers")]

use std::alloc::System;
use std::collections::{BTreeMap, HashMap};
use std::hint::black_box;
use std::sync::Arc;
use std::time::SystemTime;

use anykv::memory::MemoryStore;
use anykv::{Bytes, Key, Kv, KvStore, ListQuery, SetOptions};
use kv_cli::bench::{Dataset, Random};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The number of calls of a measurement.
const CALLS: u64 = 10_000;
/// The number of entries for the measurement of bytes per entry.
const ENTRIES: u64 = 100_000;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut counts = BTreeMap::new();
    count_store("memory", Arc::new(MemoryStore::new()), &mut counts).await;
    count_store("bounded", Arc::new(MemoryStore::builder().max_bytes(1 << 40).build().unwrap()), &mut counts).await;
    let folder = tempfile::tempdir().unwrap();
    let sqlite = anykv::sqlite::SqliteStore::open(folder.path().join("kv.db")).await.unwrap();
    count_store("sqlite", Arc::new(sqlite), &mut counts).await;
    let sled = anykv::sled::SledStore::open(folder.path().join("kv.sled")).await.unwrap();
    count_store("sled", Arc::new(sled), &mut counts).await;
    count_handle(&mut counts).await;
    count_bytes_per_entry(&mut counts).await;
    println!("{}", serde_json::to_string(&counts).unwrap());
}

fn key(number: u64) -> Key {
    Dataset::key(number).unwrap()
}

/// Returns the average number of allocations per call, including reallocations.
async fn allocations_per_call(mut operate: impl AsyncFnMut(u64), calls: u64) -> f64 {
    let region = Region::new(ALLOCATOR);
    for number in 0..calls {
        operate(number).await;
    }
    let change = region.change();
    (change.allocations + change.reallocations) as f64 / calls as f64
}

async fn count_store(name: &str, store: Arc<dyn KvStore>, counts: &mut BTreeMap<String, f64>) {
    let keys: Vec<Key> = (0..1_000).map(key).collect();
    let mut random = Random::new(1);
    let options = SetOptions::default();
    for key in &keys {
        assert!(store.set(key, random.bytes(100).into(), &options).await.unwrap().is_stored());
    }
    let at = |number: u64| &keys[usize::try_from(number).unwrap() % keys.len()];
    let gets = async |number| drop(black_box(store.get(at(number)).await.unwrap().unwrap()));
    counts.insert(format!("{name}: get"), allocations_per_call(gets, CALLS).await);
    let value = Bytes::from(random.bytes(100));
    let sets = async |number| assert!(store.set(at(number), value.clone(), &options).await.unwrap().is_stored());
    // A durable store gets fewer writes, because they are slow.
    let calls = if store.info().capabilities.durability.survives > anykv::Survives::Volatile { 200 } else { CALLS };
    counts.insert(format!("{name}: overwrite"), allocations_per_call(sets, calls).await);
    let query = ListQuery::new(keys[0].parent().unwrap()).with_limit(100);
    let lists = async |_| assert_eq!(store.list(&query).await.unwrap().items.len(), 100);
    counts.insert(format!("{name}: list of 100"), allocations_per_call(lists, 100).await);
    store.close().await.unwrap();
}

async fn count_handle(counts: &mut BTreeMap<String, f64>) {
    let kv = Kv::new(MemoryStore::new());
    let ids: Vec<String> = (0..1_000).map(|number| format!("{number:016x}")).collect();
    for id in &ids {
        kv.set(["users", id], "a value").await.unwrap();
    }
    let gets = async |number: u64| {
        let id = &ids[usize::try_from(number).unwrap() % ids.len()];
        black_box(kv.get_bytes(["users", id]).await.unwrap().unwrap());
    };
    counts.insert("handle: get".to_owned(), allocations_per_call(gets, CALLS).await);
}

/// Measures the bytes of an entry with a value of 100 bytes, including the key, in the store and in a map.
async fn count_bytes_per_entry(counts: &mut BTreeMap<String, f64>) {
    let bytes_per_entry = |region: &Region<'_, System>| {
        let change = region.change();
        // Both numbers already include reallocations.
        (change.bytes_allocated as f64 - change.bytes_deallocated as f64) / ENTRIES as f64
    };
    for (name, store) in
        [("memory", MemoryStore::new()), ("bounded", MemoryStore::builder().max_bytes(1 << 40).build().unwrap())]
    {
        let mut random = Random::new(1);
        let region = Region::new(ALLOCATOR);
        let store: Arc<dyn KvStore> = Arc::new(store);
        for number in 0..ENTRIES {
            let outcome = store.set(&key(number), random.bytes(100).into(), &SetOptions::default()).await;
            assert!(outcome.unwrap().is_stored());
        }
        counts.insert(format!("{name}: bytes per entry"), bytes_per_entry(&region));
    }
    let mut random = Random::new(1);
    let region = Region::new(ALLOCATOR);
    let mut map: HashMap<Key, (Bytes, Option<SystemTime>)> = HashMap::new();
    for number in 0..ENTRIES {
        map.insert(key(number), (random.bytes(100).into(), None));
    }
    counts.insert("HashMap: bytes per entry".to_owned(), bytes_per_entry(&region));
    black_box(map);
}
