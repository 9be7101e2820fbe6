//! The keys of one leaf.

use kv_core::Key;

/// Sorted keys, and a buffer of new keys that the next read merges into the sorted keys.
///
/// Inserting one key into the sorted keys moves half of them on average, and most of that memory is not in the
/// processor's cache. Merging many keys at once costs as much as inserting a single key.
#[derive(Debug, Default)]
pub(super) struct Leaf {
    sorted: Vec<Key>,
    unsorted: Vec<Key>,
}

/// The maximum number of keys in the buffer.
const MAX_UNSORTED: usize = 64;

impl Leaf {
    /// The number of keys. A key that was inserted again counts twice until the next read.
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

    /// Merges the buffer, and returns each key once, in order.
    pub(super) fn keys(&mut self) -> &[Key] {
        self.sort();
        &self.sorted
    }

    /// Removes the upper half of the keys and returns it as a new leaf.
    pub(super) fn split_off(&mut self) -> Self {
        self.sort();
        Self { sorted: self.sorted.split_off(self.sorted.len() / 2), unsorted: Vec::new() }
    }

    /// Appends all keys of the next leaf. They are greater than the keys of this leaf.
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
        // The stable sort detects that the first keys are already sorted.
        self.sorted.sort();
        self.sorted.dedup();
    }
}
