//! The stores and keys of the paths. The stores and keys do not depend on the number of runs.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kv_core::{Expiry, Key, KvStore, ManualClock, SetOptions};
use kv_memory::MemoryStore;

/// The number of entries in a store. A small number is enough, because the counts of instructions do not depend on the
/// processor's cache.
pub(crate) const ENTRIES: usize = 1_000;

/// The largest number of runs of a path, because some paths need a new key for each run.
pub(crate) const MAX_RUNS: usize = 10_000;

/// The number of keys under one prefix.
const GROUP: usize = 100;

/// A leaked store, and the keys of its entries. The store is never dropped, because dropping would add instructions.
pub(crate) struct Fixture {
    pub(crate) store: &'static Arc<dyn KvStore>,
    pub(crate) keys: Vec<Key>,
    pub(crate) value: Bytes,
}

impl Fixture {
    pub(crate) async fn unbounded(options: &SetOptions) -> Self {
        Self::over(MemoryStore::new(), options).await
    }

    /// An unbounded store on a clock that the path moves.
    pub(crate) async fn on_clock(clock: &ManualClock) -> Self {
        let store = MemoryStore::builder().clock(Arc::new(clock.clone())).build().unwrap();
        Self::over(store, &SetOptions::default()).await
    }

    pub(crate) async fn bounded() -> Self {
        Self::over(MemoryStore::builder().max_bytes(1 << 40).build().unwrap(), &SetOptions::default()).await
    }

    async fn over(store: MemoryStore, options: &SetOptions) -> Self {
        let store: Arc<dyn KvStore> = Arc::new(store);
        let store = &*Box::leak(Box::new(store));
        let fixture = Self { store, keys: keys("items", ENTRIES), value: vec![7; 100].into() };
        for key in &fixture.keys {
            assert!(store.set(key, fixture.value.clone(), options).await.unwrap().is_stored());
        }
        fixture
    }

    /// Returns `times` keys: the keys of the entries, repeated in a cycle.
    pub(crate) fn cycle(&self, times: usize) -> impl Iterator<Item = &Key> {
        self.keys.iter().cycle().take(times)
    }
}

/// Returns `count` keys of three segments, shuffled.
pub(crate) fn keys(first: &str, count: usize) -> Vec<Key> {
    let numbers = (0..count).map(|index| index * 7_919 % count);
    let segments = numbers.map(|number| [first.to_owned(), (number / GROUP).to_string(), (number % GROUP).to_string()]);
    segments.map(|segments| Key::new(segments).unwrap()).collect()
}

/// Returns options with a deadline in an hour. A path reaches this deadline only if it moves the clock.
pub(crate) fn expires_in_an_hour() -> SetOptions {
    SetOptions::default().with_expiry(Expiry::After(Duration::from_hours(1)))
}
