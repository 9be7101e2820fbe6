//! The lock in front of sled's own.
//!
//! Inside sled a batch excludes reads and flushes, by a lock that waits without end and that **every database of the
//! process shares** (`concurrency_control.rs`). Whoever enters sled while something stands still in there stands still
//! too, and cannot be called back. This lock is taken first, with patience that ends, so that nobody does.

use std::time::Duration;

use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};

static GATE: RwLock<()> = RwLock::new(());

/// For reading and flushing; `None` where it stayed shut that long.
pub(crate) fn shared(patience: Duration) -> Option<RwLockReadGuard<'static, ()>> {
    GATE.try_read().or_else(|| GATE.try_read_for(patience))
}

/// For applying a batch; `None` where somebody stayed inside that long.
pub(crate) fn exclusive(patience: Duration) -> Option<RwLockWriteGuard<'static, ()>> {
    GATE.try_write_for(patience)
}
