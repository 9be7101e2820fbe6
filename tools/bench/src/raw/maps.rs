//! Maps and caches in memory.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use anykv::{Bytes, DeleteOptions, Key, KvStore, SetOptions};

use super::inline::{Inline, now};

/// The value and the deadline that a map would have to check as well.
type Entry = (Bytes, Option<SystemTime>);

fn live((value, deadline): &Entry) -> Option<Bytes> {
    deadline.is_none_or(|deadline| deadline > SystemTime::now()).then(|| value.clone())
}

/// The map that everybody would write first.
#[derive(Debug, Default)]
pub(crate) struct MutexMap(Mutex<HashMap<Key, Entry>>);

impl Inline for MutexMap {
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

impl Inline for RawDashMap {
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

/// moka's asynchronous cache, as it is by default but for the weigher, which bounds bytes and not entries.
#[derive(Debug)]
pub(crate) struct RawMoka(moka::future::Cache<Key, Bytes>);

impl RawMoka {
    pub(crate) fn new() -> Self {
        Self(Self::builder().build())
    }

    /// One that tells of what it evicts, as a store has to that watchers follow. moka then takes a lock for each key.
    pub(crate) fn telling() -> Self {
        let heard = |key: Arc<Key>, value: Bytes, _| drop(black_box((key, value)));
        Self(Self::builder().eviction_listener(heard).build())
    }

    fn builder() -> moka::future::CacheBuilder<Key, Bytes, moka::future::Cache<Key, Bytes>> {
        let weigh = |_: &Key, value: &Bytes| u32::try_from(value.len()).unwrap();
        let policy = moka::policy::EvictionPolicy::lru();
        moka::future::Cache::builder().max_capacity(1 << 40).weigher(weigh).eviction_policy(policy)
    }
}

impl Inline for RawMoka {
    fn name(&self) -> &'static str {
        "moka"
    }

    fn get(&self, key: &Key) -> Option<Bytes> {
        now(self.0.get(key))
    }

    fn set(&self, key: &Key, value: Bytes) {
        now(self.0.insert(key.clone(), value));
    }

    fn remove(&self, key: &Key) {
        now(self.0.invalidate(key));
    }
}

#[derive(Debug)]
pub(crate) struct RawQuickCache(quick_cache::sync::Cache<Key, Bytes>);

impl RawQuickCache {
    pub(crate) fn new() -> Self {
        // Far more than there will be: what it evicts is not the subject.
        Self(quick_cache::sync::Cache::new(1 << 26))
    }
}

impl Inline for RawQuickCache {
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

/// A store of anykv that answers at once, beside the maps: through `Arc<dyn KvStore>`, as applications hold it.
impl Inline for Arc<dyn KvStore> {
    fn name(&self) -> &'static str {
        "anykv"
    }

    fn get(&self, key: &Key) -> Option<Bytes> {
        Some(now(KvStore::get(self, key)).unwrap()?.value)
    }

    fn set(&self, key: &Key, value: Bytes) {
        assert!(now(KvStore::set(self, key, value, &SetOptions::default())).unwrap().is_stored());
    }

    fn remove(&self, key: &Key) {
        assert!(now(KvStore::delete(self, key, &DeleteOptions::default())).unwrap().is_deleted());
    }
}
