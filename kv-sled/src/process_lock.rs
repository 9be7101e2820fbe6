//! A process-wide lock in front of sled's own.
//!
//! Inside sled, a batch excludes reads and flushes by a lock that has no timeout and that **every database of the
//! process shares** (`concurrency_control.rs`). A thread that enters sled while another hangs in there hangs too, and
//! cannot be interrupted. So every thread takes this lock first, with a timeout.

use std::time::Duration;

use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Longest wait for a lock on a caller's thread, which may be a thread of the caller's async runtime.
pub(crate) const INLINE_WAIT: Duration = Duration::from_millis(2);

static LOCK: RwLock<()> = RwLock::new(());

/// Locks for reading or flushing; `None` after the timeout.
pub(crate) fn shared(timeout: Duration) -> Option<RwLockReadGuard<'static, ()>> {
    LOCK.try_read().or_else(|| LOCK.try_read_for(timeout))
}

/// Locks for applying a batch; `None` after the timeout.
pub(crate) fn exclusive(timeout: Duration) -> Option<RwLockWriteGuard<'static, ()>> {
    LOCK.try_write_for(timeout)
}
