//! Counters of a store's operations since it was opened.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of a store's operations since it was opened, for logs and for measuring group commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct SledStats {
    /// The number of evaluated writes, including writes whose condition did not hold.
    pub writes: u64,
    /// The number of applied batches.
    pub batches: u64,
    /// The number of flushes of sled's log to the operating system.
    pub flushes: u64,
    /// The number of times that the store's files were synced.
    pub syncs: u64,
    /// The number of expired entries that the background sweeper has removed.
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

/// Adds to a counter. `Relaxed`, because no other memory depends on a counter.
pub(crate) fn count(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}
