//! Counts allocations, in a program of its own, because counting them costs time that would be in every other figure.
//!
//! Writes one JSON object: what was counted, and how many for each operation, or how many bytes for each entry.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a measurement that fails has no figure")]
#![allow(clippy::cast_precision_loss, reason = "a share is not exact")]

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

const TIMES: u64 = 10_000;
const ENTRIES: u64 = 100_000;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut counted = BTreeMap::new();
    of_a_store("memory", Arc::new(MemoryStore::new()), &mut counted).await;
    of_a_store("bounded", Arc::new(MemoryStore::builder().max_bytes(1 << 40).build().unwrap()), &mut counted).await;
    let folder = tempfile::tempdir().unwrap();
    let sqlite = anykv::sqlite::SqliteStore::open(folder.path().join("kv.db")).await.unwrap();
    of_a_store("sqlite", Arc::new(sqlite), &mut counted).await;
    let sled = anykv::sled::SledStore::open(folder.path().join("kv.sled")).await.unwrap();
    of_a_store("sled", Arc::new(sled), &mut counted).await;
    of_the_handle(&mut counted).await;
    bytes(&mut counted).await;
    println!("{}", serde_json::to_string(&counted).unwrap());
}

fn key(number: u64) -> Key {
    Dataset::key(number).unwrap()
}

/// How many allocations an operation makes, reallocations too.
async fn each(mut operate: impl AsyncFnMut(u64), times: u64) -> f64 {
    let region = Region::new(ALLOCATOR);
    for number in 0..times {
        operate(number).await;
    }
    let change = region.change();
    (change.allocations + change.reallocations) as f64 / times as f64
}

async fn of_a_store(name: &str, store: Arc<dyn KvStore>, counted: &mut BTreeMap<String, f64>) {
    let keys: Vec<Key> = (0..1_000).map(key).collect();
    let mut random = Random::new(1);
    let options = SetOptions::default();
    for key in &keys {
        assert!(store.set(key, random.bytes(100).into(), &options).await.unwrap().is_stored());
    }
    let at = |number: u64| &keys[usize::try_from(number).unwrap() % keys.len()];
    let gets = async |number| drop(black_box(store.get(at(number)).await.unwrap().unwrap()));
    counted.insert(format!("{name}: get"), each(gets, TIMES).await);
    let value = Bytes::from(random.bytes(100));
    let sets = async |number| assert!(store.set(at(number), value.clone(), &options).await.unwrap().is_stored());
    // What is written to a disk is written less often.
    let times = if store.info().capabilities.durability.survives > anykv::Survives::Volatile { 200 } else { TIMES };
    counted.insert(format!("{name}: overwrite"), each(sets, times).await);
    let query = ListQuery::new(keys[0].parent().unwrap()).with_limit(100);
    let lists = async |_| assert_eq!(store.list(&query).await.unwrap().items.len(), 100);
    counted.insert(format!("{name}: list of 100"), each(lists, 100).await);
    store.close().await.unwrap();
}

async fn of_the_handle(counted: &mut BTreeMap<String, f64>) {
    let kv = Kv::new(MemoryStore::new());
    let ids: Vec<String> = (0..1_000).map(|number| format!("{number:016x}")).collect();
    for id in &ids {
        kv.set(["users", id], "a value").await.unwrap();
    }
    let gets = async |number: u64| {
        let id = &ids[usize::try_from(number).unwrap() % ids.len()];
        black_box(kv.get_bytes(["users", id]).await.unwrap().unwrap());
    };
    counted.insert("handle: get".to_owned(), each(gets, TIMES).await);
}

/// What an entry of a value of 100 bytes takes, its key included, in the store and in a map.
async fn bytes(counted: &mut BTreeMap<String, f64>) {
    let taken = |region: &Region<'_, System>| {
        let change = region.change();
        // What was made larger or smaller is in both numbers already.
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
        counted.insert(format!("{name}: bytes an entry"), taken(&region));
    }
    let mut random = Random::new(1);
    let region = Region::new(ALLOCATOR);
    let mut map: HashMap<Key, (Bytes, Option<SystemTime>)> = HashMap::new();
    for number in 0..ENTRIES {
        map.insert(key(number), (random.bytes(100).into(), None));
    }
    counted.insert("HashMap: bytes an entry".to_owned(), taken(&region));
    black_box(map);
}
