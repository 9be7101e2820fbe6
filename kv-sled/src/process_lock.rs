//! A process-wide lock that a thread takes before it calls sled.
//!
//! sled has a lock that excludes reads and flushes while a batch is applied. sled's lock has no timeout, and **all
//! databases of the process share it** (`concurrency_control.rs`). If one thread hangs while it holds sled's lock,
//! every other thread that calls sled hangs, too, and cannot be interrupted. Therefore every thread takes the lock of
//! this module first, with a timeout.

use std::time::Duration;

use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// The longest time that a caller's thread waits for a lock. This time is short, because the thread may run other tasks
/// of the caller's runtime.
pub(crate) const INLINE_WAIT: Duration = Duration::from_millis(2);

static LOCK: RwLock<()> = RwLock::new(());

/// Held by each unit test that takes the process-wide lock, so that no other test holds that lock meanwhile.
#[cfg(test)]
pub(crate) static SERIAL: parking_lot::Mutex<()> = parking_lot::Mutex::new(());

/// Locks for reading or flushing; `None` after the timeout.
pub(crate) fn shared(timeout: Duration) -> Option<RwLockReadGuard<'static, ()>> {
    LOCK.try_read().or_else(|| LOCK.try_read_for(timeout))
}

/// Locks for applying a batch; `None` after the timeout.
pub(crate) fn exclusive(timeout: Duration) -> Option<RwLockWriteGuard<'static, ()>> {
    LOCK.try_write_for(timeout)
}
