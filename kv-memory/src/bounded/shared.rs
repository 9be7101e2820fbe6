//! What the bounded engine keeps beside the cache.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};

use kv_core::Key;
use parking_lot::Mutex;

use crate::deadlines::Deadlines;
use crate::order::Order;
use crate::slot::Slot;

/// The indexes of the cache, which the cache tells of every slot that leaves it.
///
/// A key in the cache is in the order, and may be there a while after it left: it is put there in its turn before the cache
/// has it, and taken out in its turn by whoever sees it absent. A slot with a deadline is
/// in the deadline index from before it enters the cache until it left, or, where a future was dropped in between, until
/// the deadline.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) order: Order,
    deadlines: [Mutex<Deadlines>; STRIPES],
    departed: Mutex<VecDeque<Key>>,
    /// How many keys departed, so that a write that finds none takes no lock.
    departed_count: AtomicUsize,
}

/// A power of two; tickets spread over it.
const STRIPES: usize = 16;

impl Shared {
    pub(crate) fn new() -> Self {
        Self {
            order: Order::new(),
            deadlines: std::array::from_fn(|_| Mutex::default()),
            departed: Mutex::default(),
            departed_count: AtomicUsize::new(0),
        }
    }

    pub(crate) fn enters(&self, key: &Key, slot: &Slot) {
        if slot.has_deadline() {
            self.stripe(slot).lock().insert(slot, key);
        }
    }

    /// A slot has left the cache, replaced by another or not.
    pub(crate) fn leaves(&self, slot: &Slot) {
        if slot.has_deadline() {
            self.stripe(slot).lock().remove(slot);
        }
    }

    /// A key may have left the cache, and somebody has to look.
    pub(crate) fn depart(&self, key: Key) {
        let mut departed = self.departed.lock();
        departed.push_back(key);
        self.departed_count.store(departed.len(), Ordering::Release);
    }

    /// Takes a key to look at; it comes back when the look is not finished.
    pub(crate) fn next_departed(&self) -> Option<Departed<'_>> {
        if !self.has_departed() {
            return None;
        }
        let mut departed = self.departed.lock();
        let key = departed.pop_front()?;
        self.departed_count.store(departed.len(), Ordering::Release);
        Some(Departed { shared: self, key, is_finished: false })
    }

    pub(crate) fn has_departed(&self) -> bool {
        self.departed_count.load(Ordering::Acquire) > 0
    }

    pub(crate) fn stripes(&self) -> impl Iterator<Item = &Mutex<Deadlines>> {
        self.deadlines.iter()
    }

    /// How many places by deadline there are.
    pub(crate) fn deadlines(&self) -> usize {
        self.stripes().map(|stripe| stripe.lock().len()).sum()
    }

    pub(crate) fn clear(&self) {
        self.order.clear();
        self.stripes().for_each(|stripe| *stripe.lock() = Deadlines::default());
        let mut departed = self.departed.lock();
        *departed = VecDeque::new();
        self.departed_count.store(0, Ordering::Release);
    }

    fn stripe(&self, slot: &Slot) -> &Mutex<Deadlines> {
        #[expect(
            clippy::indexing_slicing,
            clippy::cast_possible_truncation,
            reason = "the remainder is a stripe's place"
        )]
        &self.deadlines[slot.ticket() as usize % STRIPES]
    }
}

/// A key that departed and is being looked at.
#[derive(Debug)]
pub(crate) struct Departed<'a> {
    shared: &'a Shared,
    pub(crate) key: Key,
    is_finished: bool,
}

impl Departed<'_> {
    /// The look is finished.
    pub(crate) fn finish(mut self) {
        self.is_finished = true;
    }
}

impl Drop for Departed<'_> {
    fn drop(&mut self) {
        if !self.is_finished {
            self.shared.depart(self.key.clone());
        }
    }
}
