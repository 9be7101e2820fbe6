//! What one task asks for.

use std::sync::Arc;

use anykv::{Bytes, Key, KeyPrefix, Result};

use super::dataset::Dataset;
use crate::random::Random;

/// Keys and values for one task.
#[derive(Debug)]
pub struct Traffic {
    dataset: Arc<Dataset>,
    random: Random,
    /// Where in the prepared keys it is, which are in random order.
    place: usize,
}

impl Traffic {
    /// How many keys are read in one call.
    pub const MANY: usize = 100;

    pub(super) fn new(dataset: Arc<Dataset>, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let place = usize::try_from(random.below(dataset.keys.len() as u64)).unwrap_or_default();
        Self { dataset, random, place }
    }

    /// The set that it is about.
    pub fn dataset(&self) -> &Dataset {
        &self.dataset
    }

    /// A key that is there.
    pub fn key(&mut self) -> &Key {
        self.step();
        at(&self.dataset.keys, self.place)
    }

    /// A key that is not there.
    pub fn missing(&mut self) -> &Key {
        self.step();
        at(&self.dataset.missing, self.place)
    }

    /// A key that was never there before.
    ///
    /// # Errors
    /// As [`Dataset::fresh`].
    pub fn fresh(&mut self) -> Result<Key> {
        self.dataset.fresh()
    }

    /// A prefix with [`Traffic::page`] entries under it.
    pub fn group(&mut self) -> &KeyPrefix {
        self.step();
        at(&self.dataset.groups, self.place)
    }

    /// How many entries are under each prefix, at least.
    pub fn page(&self) -> usize {
        let last = self.dataset.entries() % Dataset::GROUP;
        usize::try_from(if last == 0 { Dataset::GROUP } else { last }).unwrap_or_default()
    }

    /// Several keys that are there.
    pub fn many(&mut self) -> Vec<Key> {
        (0..Self::MANY).map(|_| self.key().clone()).collect()
    }

    /// A value that no other write has.
    pub fn value(&mut self) -> Bytes {
        self.random.bytes(self.dataset.value_bytes()).into()
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.random.below(end)
    }

    fn step(&mut self) {
        self.place += 1;
        if self.place >= self.dataset.keys.len() {
            self.place = 0;
        }
    }
}

/// One of what was prepared, in its order and from the start again.
#[expect(clippy::indexing_slicing, reason = "a dataset prepares at least one of each kind, and the rest is below that")]
fn at<T>(prepared: &[T], place: usize) -> &T {
    &prepared[if place < prepared.len() { place } else { place % prepared.len() }]
}
