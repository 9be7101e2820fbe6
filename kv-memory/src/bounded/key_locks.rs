//! Key locks.

use std::hash::BuildHasher;

use hashbrown::DefaultHashBuilder;
use kv_core::Key;
use tokio::sync::{Mutex, MutexGuard};

/// One lock per stripe of keys, chosen by hash. A writer holds the lock across the `.await`s of the cache.
#[derive(Debug)]
pub(crate) struct KeyLocks {
    hasher: DefaultHashBuilder,
    locks: Box<[Mutex<()>; STRIPES]>,
}

/// Large enough that two tasks rarely contend.
const STRIPES: usize = 256;

impl KeyLocks {
    pub(crate) fn new() -> Self {
        Self { hasher: DefaultHashBuilder::default(), locks: Box::new(std::array::from_fn(|_| Mutex::default())) }
    }

    /// Waits for the lock of a key, and releases it when the guard is dropped.
    pub(crate) async fn lock(&self, key: &Key) -> MutexGuard<'_, ()> {
        #[expect(
            clippy::indexing_slicing,
            clippy::cast_possible_truncation,
            reason = "the remainder is below the number of stripes"
        )]
        let lock = &self.locks[self.hasher.hash_one(key) as usize % STRIPES];
        // The lock is nearly always free, and `try_lock` is cheaper than a waiting future. It fails while others wait,
        // so it does not overtake them.
        match lock.try_lock() {
            Ok(guard) => guard,
            Err(_) => lock.lock().await,
        }
    }
}
