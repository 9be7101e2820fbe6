//! The keys of one leaf.

use kv_core::Key;

/// Keys in order, and those that have come since, which are not put in their places before somebody looks.
///
/// A key that is put in its place moves half a leaf, most of which no cache holds. Many at a time cost as much as one.
#[derive(Debug, Default)]
pub(super) struct Leaf {
    sorted: Vec<Key>,
    fresh: Vec<Key>,
}

/// How many keys wait for their places.
const FRESH_KEYS: usize = 64;

impl Leaf {
    /// How many keys there are; one that was added again while it waited counts twice.
    pub(super) fn len(&self) -> usize {
        self.sorted.len() + self.fresh.len()
    }

    pub(super) fn insert(&mut self, key: Key) {
        if self.fresh.is_empty() && self.sorted.last().is_none_or(|last| *last < key) {
            return self.sorted.push(key);
        }
        self.fresh.push(key);
        if self.fresh.len() == FRESH_KEYS {
            self.settle();
        }
    }

    /// Removes a key and tells whether it was there.
    pub(super) fn remove(&mut self, key: &Key) -> bool {
        let before = self.len();
        self.fresh.retain(|fresh| fresh != key);
        if let Ok(place) = self.sorted.binary_search(key) {
            self.sorted.remove(place);
        }
        self.len() < before
    }

    /// The keys in order, each once.
    pub(super) fn keys(&mut self) -> &[Key] {
        self.settle();
        &self.sorted
    }

    /// Takes the upper half.
    pub(super) fn split_off(&mut self) -> Self {
        self.settle();
        Self { sorted: self.sorted.split_off(self.sorted.len() / 2), fresh: Vec::new() }
    }

    /// Takes all keys of the leaf above.
    pub(super) fn append(&mut self, mut above: Self) {
        self.settle();
        above.settle();
        self.sorted.append(&mut above.sorted);
    }

    fn settle(&mut self) {
        if self.fresh.is_empty() {
            return;
        }
        self.sorted.append(&mut self.fresh);
        // Finds what is in order already.
        self.sorted.sort();
        self.sorted.dedup();
    }
}
