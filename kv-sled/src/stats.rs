//! What a store has done since it was opened.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts of what a store has done since it was opened, for logs and for judging how writes are grouped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct SledStats {
    /// Writes that were judged, refused ones included.
    pub writes: u64,
    /// Batches that were applied.
    pub batches: u64,
    /// How often sled was made to hand everything over to the operating system.
    pub flushes: u64,
    /// How often files were brought to the medium.
    pub syncs: u64,
    /// Entries that were removed because their deadline had passed, by the background sweeper.
    pub swept: u64,
}

/// The counts as the worker keeps them.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) writes: AtomicU64,
    pub(crate) batches: AtomicU64,
    pub(crate) flushes: AtomicU64,
    pub(crate) syncs: AtomicU64,
    pub(crate) swept: AtomicU64,
}

impl Counts {
    pub(crate) fn read(&self) -> SledStats {
        let Self { writes, batches, flushes, syncs, swept } = self;
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        SledStats {
            writes: read(writes),
            batches: read(batches),
            flushes: read(flushes),
            syncs: read(syncs),
            swept: read(swept),
        }
    }
}

/// Counts on. Nothing is ordered by a count.
pub(crate) fn count(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}
