//! The size of a store in numbers.

/// The size of a store, including expired entries that are not swept yet. The numbers are not one snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct MemoryStats {
    /// Entries. The bounded engine counts them during maintenance, of which `sweep` is one.
    pub entries: usize,
    /// Items of the index by deadline: one for each entry that has a deadline.
    pub deadlines: usize,
    /// Keys in the ordered index: one for each entry, and those of evicted entries until maintenance removes them.
    pub ordered_keys: usize,
}
