//! Who may change a key.

use std::hash::BuildHasher;

use hashbrown::DefaultHashBuilder;
use kv_core::Key;
use tokio::sync::{Mutex, MutexGuard};

/// A turn for each key, which is held over the cache's futures. Keys share turns by hash.
#[derive(Debug)]
pub(crate) struct Turns {
    hasher: DefaultHashBuilder,
    locks: Box<[Mutex<()>; COUNT]>,
}

/// Enough that two tasks rarely meet.
const COUNT: usize = 256;

impl Turns {
    pub(crate) fn new() -> Self {
        Self { hasher: DefaultHashBuilder::default(), locks: Box::new(std::array::from_fn(|_| Mutex::default())) }
    }

    /// Waits for the turn of a key. The turn ends when the guard is dropped.
    pub(crate) async fn of(&self, key: &Key) -> MutexGuard<'_, ()> {
        #[expect(
            clippy::indexing_slicing,
            clippy::cast_possible_truncation,
            reason = "the remainder is a lock's place"
        )]
        let lock = &self.locks[self.hasher.hash_one(key) as usize % COUNT];
        // Nearly always free, and asking is cheaper than a future that waits; nobody is passed over who waits already.
        match lock.try_lock() {
            Ok(turn) => turn,
            Err(_) => lock.lock().await,
        }
    }
}
