//! What a store holds, in numbers.

/// How much a store holds, what has expired and was not swept yet included. The parts are not counted in one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct MemoryStats {
    /// Entries. The bounded engine counts them as of its last maintenance, of which `sweep` is one.
    pub entries: usize,
    /// Places in the index by deadline: one for each entry that has a deadline.
    pub deadlines: usize,
    /// Keys in the ordered index: one for each entry, and, until they are settled, those of evicted ones.
    pub ordered_keys: usize,
}
