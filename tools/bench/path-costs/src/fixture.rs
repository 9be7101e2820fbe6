//! What the paths are walked over: always the same, however often.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kv_core::{Expiry, Key, KvStore, ManualClock, SetOptions};
use kv_memory::MemoryStore;

/// How many entries a store has: few, for instructions do not follow the caches.
pub(crate) const ENTRIES: usize = 1_000;

/// The most times that a path can be walked, for each walk of some needs a key of its own.
pub(crate) const MOST: usize = 10_000;

/// Keys under one prefix.
const GROUP: usize = 100;

/// A store that is never taken down, and the keys of its entries.
pub(crate) struct Fixture {
    pub(crate) store: &'static Arc<dyn KvStore>,
    pub(crate) keys: Vec<Key>,
    pub(crate) value: Bytes,
}

impl Fixture {
    pub(crate) async fn unbounded(options: &SetOptions) -> Self {
        Self::over(MemoryStore::new(), options).await
    }

    /// An unbounded one, whose time is moved by hand.
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

    /// The keys of the entries, again and again.
    pub(crate) fn walks(&self, times: usize) -> impl Iterator<Item = &Key> {
        self.keys.iter().cycle().take(times)
    }
}

/// So many keys of three segments, in an order that is not theirs.
pub(crate) fn keys(first: &str, count: usize) -> Vec<Key> {
    let numbers = (0..count).map(|place| place * 7_919 % count);
    let segments = numbers.map(|number| [first.to_owned(), (number / GROUP).to_string(), (number % GROUP).to_string()]);
    segments.map(|segments| Key::new(segments).unwrap()).collect()
}

/// Options with a deadline that nothing here reaches.
pub(crate) fn for_an_hour() -> SetOptions {
    SetOptions::default().with_expiry(Expiry::After(Duration::from_secs(3_600)))
}
