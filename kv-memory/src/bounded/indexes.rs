//! The indexes of the bounded engine, which the cache does not have.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};

use kv_core::Key;
use parking_lot::Mutex;

use crate::deadlines::Deadlines;
use crate::order::Order;
use crate::slot::Slot;

/// The indexes of the cache by key and by deadline.
///
/// Invariants:
/// - Every key in the cache is in `order`, because a write inserts the key into `order` under the key lock before it
///   inserts the key into the cache. A key that has left the cache may stay in `order`, until a task that holds the key
///   lock finds that the key is not in the cache, and removes it.
/// - Every slot in the cache that has a deadline is in `deadlines`, because a write inserts the slot into `deadlines`
///   before the cache, and removes it from `deadlines` after the cache. If the future of a write is dropped in between,
///   the item stays until its deadline has passed.
#[derive(Debug)]
pub(crate) struct Indexes {
    pub(crate) order: Order,
    deadlines: [Mutex<Deadlines>; STRIPES],
    /// The queue of stale keys: keys in `order` that are possibly not in the cache.
    stale_keys: Mutex<VecDeque<Key>>,
    /// The length of `stale_keys`, so that a write takes no lock if the queue is empty.
    stale_count: AtomicUsize,
}

/// The number of stripes, which is a power of two. The random prefix of a slot's version determines its stripe.
const STRIPES: usize = 16;

impl Indexes {
    pub(crate) fn new() -> Self {
        Self {
            order: Order::new(),
            deadlines: std::array::from_fn(|_| Mutex::default()),
            stale_keys: Mutex::default(),
            stale_count: AtomicUsize::new(0),
        }
    }

    /// Inserts the deadline of a slot. Does nothing if the slot never expires.
    pub(crate) fn insert_deadline(&self, key: &Key, slot: &Slot) {
        if slot.has_deadline() {
            self.stripe(slot).lock().insert(slot, key);
        }
    }

    pub(crate) fn remove_deadline(&self, slot: &Slot) {
        if slot.has_deadline() {
            self.stripe(slot).lock().remove(slot);
        }
    }

    /// Queues a key that may have left the cache.
    pub(crate) fn push_stale(&self, key: Key) {
        let mut stale_keys = self.stale_keys.lock();
        stale_keys.push_back(key);
        self.stale_count.store(stale_keys.len(), Ordering::Release);
    }

    /// Takes the next stale key. If the returned guard is dropped without [`StaleKey::finish`], the key returns to the
    /// queue.
    pub(crate) fn next_stale(&self) -> Option<StaleKey<'_>> {
        if !self.has_stale() {
            return None;
        }
        let mut stale_keys = self.stale_keys.lock();
        let key = stale_keys.pop_front()?;
        self.stale_count.store(stale_keys.len(), Ordering::Release);
        Some(StaleKey { indexes: self, key, is_finished: false })
    }

    pub(crate) fn has_stale(&self) -> bool {
        self.stale_count.load(Ordering::Acquire) > 0
    }

    pub(crate) fn stripes(&self) -> impl Iterator<Item = &Mutex<Deadlines>> {
        self.deadlines.iter()
    }

    /// The number of items in the index by deadline.
    pub(crate) fn deadline_count(&self) -> usize {
        self.stripes().map(|stripe| stripe.lock().len()).sum()
    }

    pub(crate) fn clear(&self) {
        self.order.clear();
        self.stripes().for_each(|stripe| *stripe.lock() = Deadlines::default());
        let mut stale_keys = self.stale_keys.lock();
        *stale_keys = VecDeque::new();
        self.stale_count.store(0, Ordering::Release);
    }

    fn stripe(&self, slot: &Slot) -> &Mutex<Deadlines> {
        #[expect(
            clippy::indexing_slicing,
            clippy::cast_possible_truncation,
            reason = "the remainder is below the number of stripes"
        )]
        &self.deadlines[slot.version_prefix() as usize % STRIPES]
    }
}

/// A stale key that a task is checking.
#[derive(Debug)]
pub(crate) struct StaleKey<'a> {
    indexes: &'a Indexes,
    pub(crate) key: Key,
    is_finished: bool,
}

impl StaleKey<'_> {
    /// Ends the check, so that the key does not return to the queue.
    pub(crate) fn finish(mut self) {
        self.is_finished = true;
    }
}

impl Drop for StaleKey<'_> {
    fn drop(&mut self) {
        if !self.is_finished {
            self.indexes.push_stale(self.key.clone());
        }
    }
}
