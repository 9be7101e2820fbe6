//! The fair lock for the writes of all handles of this process on one file: first come, first served.
//!
//! SQLite's own lock is not fair: a waiting connection polls the lock at growing intervals, and a handle that writes
//! without a pause has usually taken the lock again before the next poll. Therefore the handles of a process wait for
//! this lock first, and only the handle that holds this lock competes with other processes for SQLite's lock.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::runtime::Timer;
use crate::weak_map::WeakMap;

/// The lock of each file, by canonical path.
static LOCKS: WeakMap<PathBuf, Mutex<()>> = WeakMap::new();

/// The lock of one file.
#[derive(Debug, Clone)]
pub(crate) struct WriteLock(Arc<Mutex<()>>);

/// Proof that this handle holds the lock. Dropping the guard passes the lock to the next waiting handle.
#[derive(Debug)]
#[must_use = "dropping the guard releases the lock"]
pub(crate) struct WriteGuard {
    _held: Option<OwnedMutexGuard<()>>,
}

impl WriteGuard {
    /// The guard of a store in memory, which needs no lock because it has one handle only.
    pub(crate) const IN_MEMORY: Self = Self { _held: None };
}

impl WriteLock {
    pub(crate) fn of(file: PathBuf) -> Self {
        Self(LOCKS.get(file))
    }

    /// Takes the lock. Blocks the thread, which must belong to no runtime. Returns `None` if the lock is not free
    /// within `limit`.
    pub(crate) fn take(&self, timer: &Timer, limit: Duration) -> Option<WriteGuard> {
        // The fast path for a free lock. This path does not overtake a waiting handle, because a released tokio mutex
        // is passed to the first waiting handle and is not free in between.
        let held = match Arc::clone(&self.0).try_lock_owned() {
            Ok(held) => Some(held),
            Err(_) => timer.block_on(limit, Arc::clone(&self.0).lock_owned()),
        };
        held.map(|held| WriteGuard { _held: Some(held) })
    }
}
