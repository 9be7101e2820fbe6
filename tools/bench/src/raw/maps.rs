//! In-memory maps and caches.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use anykv::{Bytes, DeleteOptions, Key, KvStore, SetOptions};

use super::sync::{SyncDriver, poll_until_ready};

/// A value and its deadline. The map checks the deadline too, so that it does the same work as a store.
type Entry = (Bytes, Option<SystemTime>);

fn live((value, deadline): &Entry) -> Option<Bytes> {
    deadline.is_none_or(|deadline| deadline > SystemTime::now()).then(|| value.clone())
}

/// The simplest concurrent map.
#[derive(Debug, Default)]
pub(crate) struct MutexMap(Mutex<HashMap<Key, Entry>>);

impl SyncDriver for MutexMap {
    fn name(&self) -> &'static str {
        "Mutex<HashMap>"
    }

    fn get(&self, key: &Key) -> Option<Bytes> {
        self.0.lock().unwrap().get(key).and_then(live)
    }

    fn set(&self, key: &Key, value: Bytes) {
        self.0.lock().unwrap().insert(key.clone(), (value, None));
    }

    fn remove(&self, key: &Key) {
        self.0.lock().unwrap().remove(key);
    }
}

#[derive(Debug, Default)]
pub(crate) struct RawDashMap(dashmap::DashMap<Key, Entry>);

impl SyncDriver for RawDashMap {
    fn name(&self) -> &'static str {
        "DashMap"
    }

    fn get(&self, key: &Key) -> Option<Bytes> {
        self.0.get(key).and_then(|entry| live(&entry))
    }

    fn set(&self, key: &Key, value: Bytes) {
        self.0.insert(key.clone(), (value, None));
    }

    fn remove(&self, key: &Key) {
        self.0.remove(key);
    }
}

/// moka's asynchronous cache with LRU eviction and a weigher, which bounds bytes instead of entries.
#[derive(Debug)]
pub(crate) struct RawMoka(moka::future::Cache<Key, Bytes>);

impl RawMoka {
    pub(crate) fn new() -> Self {
        Self(Self::builder().build())
    }

    /// Creates a cache with an eviction listener, which a store with watchers needs. moka then locks each key on
    /// writes.
    pub(crate) fn with_listener() -> Self {
        let listener = |key: Arc<Key>, value: Bytes, _| drop(black_box((key, value)));
        Self(Self::builder().eviction_listener(listener).build())
    }

    fn builder() -> moka::future::CacheBuilder<Key, Bytes, moka::future::Cache<Key, Bytes>> {
        let weigher = |_: &Key, value: &Bytes| u32::try_from(value.len()).unwrap();
        let policy = moka::policy::EvictionPolicy::lru();
        moka::future::Cache::builder().max_capacity(1 << 40).weigher(weigher).eviction_policy(policy)
    }
}

impl SyncDriver for RawMoka {
    fn name(&self) -> &'static str {
        "moka"
    }

    fn get(&self, key: &Key) -> Option<Bytes> {
        poll_until_ready(self.0.get(key))
    }

    fn set(&self, key: &Key, value: Bytes) {
        poll_until_ready(self.0.insert(key.clone(), value));
    }

    fn remove(&self, key: &Key) {
        poll_until_ready(self.0.invalidate(key));
    }
}

#[derive(Debug)]
pub(crate) struct RawQuickCache(quick_cache::sync::Cache<Key, Bytes>);

impl RawQuickCache {
    pub(crate) fn new() -> Self {
        // The capacity is above the number of entries, so that nothing is evicted.
        Self(quick_cache::sync::Cache::new(1 << 26))
    }
}

impl SyncDriver for RawQuickCache {
    fn name(&self) -> &'static str {
        "quick_cache"
    }

    fn get(&self, key: &Key) -> Option<Bytes> {
        self.0.get(key)
    }

    fn set(&self, key: &Key, value: Bytes) {
        self.0.insert(key.clone(), value);
    }

    fn remove(&self, key: &Key) {
        self.0.remove(key);
    }
}

/// An in-memory store of anykv, called through `Arc<dyn KvStore>` as in an application.
impl SyncDriver for Arc<dyn KvStore> {
    fn name(&self) -> &'static str {
        "anykv"
    }

    fn get(&self, key: &Key) -> Option<Bytes> {
        Some(poll_until_ready(KvStore::get(self, key)).unwrap()?.value)
    }

    fn set(&self, key: &Key, value: Bytes) {
        assert!(poll_until_ready(KvStore::set(self, key, value, &SetOptions::default())).unwrap().is_stored());
    }

    fn remove(&self, key: &Key) {
        assert!(poll_until_ready(KvStore::delete(self, key, &DeleteOptions::default())).unwrap().is_deleted());
    }
}
