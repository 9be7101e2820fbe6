//! Counters of a store's work since it was opened.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of a store's work since it was opened, for logs and for checking how well group commit works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct SledStats {
    /// Writes that were evaluated, refused ones included.
    pub writes: u64,
    /// Batches that were applied.
    pub batches: u64,
    /// Flushes of sled's log to the operating system.
    pub flushes: u64,
    /// Fsyncs of the store's files.
    pub syncs: u64,
    /// Expired entries that the background sweeper removed.
    pub swept: u64,
}

/// The counters behind [`SledStats`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) writes: AtomicU64,
    pub(crate) batches: AtomicU64,
    pub(crate) flushes: AtomicU64,
    pub(crate) syncs: AtomicU64,
    pub(crate) swept: AtomicU64,
}

impl Counters {
    pub(crate) fn read(&self) -> SledStats {
        let Self { writes, batches, flushes, syncs, swept } = self;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        SledStats {
            writes: read(writes),
            batches: read(batches),
            flushes: read(flushes),
            syncs: read(syncs),
            swept: read(swept),
        }
    }
}

/// Adds to a counter. Relaxed, because no other memory is ordered by a counter.
pub(crate) fn count(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}
