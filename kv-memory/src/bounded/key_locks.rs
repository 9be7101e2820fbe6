//! The key locks of the bounded engine.

use std::hash::BuildHasher;

use hashbrown::DefaultHashBuilder;
use kv_core::Key;
use tokio::sync::{Mutex, MutexGuard};

/// One lock per stripe of keys. The hash of a key determines its stripe. A write holds the lock while it awaits the
/// cache, so these are locks of tokio.
#[derive(Debug)]
pub(crate) struct KeyLocks {
    hasher: DefaultHashBuilder,
    locks: Box<[Mutex<()>; STRIPES]>,
}

/// The number of stripes. It is so large that two tasks rarely need the same lock.
const STRIPES: usize = 256;

impl KeyLocks {
    pub(crate) fn new() -> Self {
        Self { hasher: DefaultHashBuilder::default(), locks: Box::new(std::array::from_fn(|_| Mutex::default())) }
    }

    /// Waits for the lock of a key. Dropping the returned guard releases the lock.
    pub(crate) async fn lock(&self, key: &Key) -> MutexGuard<'_, ()> {
        #[expect(
            clippy::indexing_slicing,
            clippy::cast_possible_truncation,
            reason = "the remainder is below the number of stripes"
        )]
        let lock = &self.locks[self.hasher.hash_one(key) as usize % STRIPES];
        // The lock is nearly always free, and `try_lock` is cheaper than a waiting future. `try_lock` fails while other
        // tasks wait, so this call does not overtake them.
        match lock.try_lock() {
            Ok(guard) => guard,
            Err(_) => lock.lock().await,
        }
    }
}
