//! The numbers of entries and index items of a store.

/// The numbers of entries and index items of a store, including expired entries that are not swept yet. The numbers are
/// not one snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct MemoryStats {
    /// The number of entries. In a bounded store, this is the number at the last maintenance. `sweep` runs the
    /// maintenance.
    pub entries: usize,
    /// The number of items in the index by deadline: one for each entry that has a deadline.
    pub deadlines: usize,
    /// The number of keys in the ordered index: one for each entry. In a bounded store, keys of evicted entries also
    /// count until maintenance removes them.
    pub ordered_keys: usize,
}
