//! The keys of one leaf.

use kv_core::Key;

/// Sorted keys, and a buffer of new keys, which are sorted in at the next read.
///
/// Inserting one key into a sorted leaf moves half of the leaf, most of which is not in the processor's cache. Sorting
/// in many keys at once costs as much as one.
#[derive(Debug, Default)]
pub(super) struct Leaf {
    sorted: Vec<Key>,
    unsorted: Vec<Key>,
}

/// Keys that the buffer holds at most.
const MAX_UNSORTED: usize = 64;

impl Leaf {
    /// The number of keys. A key that is inserted again while it is in the buffer counts twice.
    pub(super) fn len(&self) -> usize {
        self.sorted.len() + self.unsorted.len()
    }

    pub(super) fn insert(&mut self, key: Key) {
        if self.unsorted.is_empty() && self.sorted.last().is_none_or(|last| *last < key) {
            return self.sorted.push(key);
        }
        self.unsorted.push(key);
        if self.unsorted.len() == MAX_UNSORTED {
            self.sort();
        }
    }

    /// Removes a key. Returns true if it was present.
    pub(super) fn remove(&mut self, key: &Key) -> bool {
        let before = self.len();
        self.unsorted.retain(|unsorted| unsorted != key);
        if let Ok(index) = self.sorted.binary_search(key) {
            self.sorted.remove(index);
        }
        self.len() < before
    }

    /// Returns the keys in order, each once.
    pub(super) fn keys(&mut self) -> &[Key] {
        self.sort();
        &self.sorted
    }

    /// Removes the upper half and returns it as a leaf.
    pub(super) fn split_off(&mut self) -> Self {
        self.sort();
        Self { sorted: self.sorted.split_off(self.sorted.len() / 2), unsorted: Vec::new() }
    }

    /// Appends all keys of the next leaf.
    pub(super) fn append(&mut self, mut upper: Self) {
        self.sort();
        upper.sort();
        self.sorted.append(&mut upper.sorted);
    }

    fn sort(&mut self) {
        if self.unsorted.is_empty() {
            return;
        }
        self.sorted.append(&mut self.unsorted);
        // The stable sort detects the sorted run at the start.
        self.sorted.sort();
        self.sorted.dedup();
    }
}
