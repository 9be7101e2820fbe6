//! The keys and values that a task uses.

use std::sync::Arc;

use anykv::{Bytes, Key, KeyPrefix, Result};

use super::dataset::Dataset;
use crate::random::Random;

/// Generates the keys and values for one task.
#[derive(Debug)]
pub struct Traffic {
    dataset: Arc<Dataset>,
    random: Random,
    /// The current index in the prepared keys, which are in random order.
    index: usize,
}

impl Traffic {
    /// The number of keys in a call of `get-many`.
    pub const MANY: usize = 100;

    pub(super) fn new(dataset: Arc<Dataset>, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let index = usize::try_from(random.below(dataset.keys.len() as u64)).unwrap_or_default();
        Self { dataset, random, index }
    }

    /// Returns the data set.
    pub fn dataset(&self) -> &Dataset {
        &self.dataset
    }

    /// Returns the key of a loaded entry.
    pub fn key(&mut self) -> &Key {
        self.step();
        item_at(&self.dataset.keys, self.index)
    }

    /// Returns a key that was never written.
    pub fn missing(&mut self) -> &Key {
        self.step();
        item_at(&self.dataset.missing, self.index)
    }

    /// Returns a new key for an insert.
    ///
    /// # Errors
    /// The errors of [`Dataset::fresh`].
    pub fn fresh(&mut self) -> Result<Key> {
        self.dataset.fresh()
    }

    /// Returns a prefix that covers at least [`Traffic::smallest_group`] loaded entries.
    pub fn group(&mut self) -> &KeyPrefix {
        self.step();
        item_at(&self.dataset.groups, self.index)
    }

    /// Returns the smallest number of entries under a prefix.
    pub fn smallest_group(&self) -> usize {
        let last = self.dataset.entries() % Dataset::GROUP;
        usize::try_from(if last == 0 { Dataset::GROUP } else { last }).unwrap_or_default()
    }

    /// Returns [`Traffic::MANY`] keys of loaded entries.
    pub fn many(&mut self) -> Vec<Key> {
        (0..Self::MANY).map(|_| self.key().clone()).collect()
    }

    /// Returns a new random value.
    pub fn value(&mut self) -> Bytes {
        self.random.bytes(self.dataset.value_bytes()).into()
    }

    /// Returns a random number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.random.below(end)
    }

    fn step(&mut self) {
        self.index += 1;
        if self.index >= self.dataset.keys.len() {
            self.index = 0;
        }
    }
}

/// Returns the prepared item at `index`, modulo the number of items.
#[expect(
    clippy::indexing_slicing,
    reason = "a dataset prepares at least one item of each kind, and the index is below the length"
)]
fn item_at<T>(prepared: &[T], index: usize) -> &T {
    &prepared[if index < prepared.len() { index } else { index % prepared.len() }]
}
