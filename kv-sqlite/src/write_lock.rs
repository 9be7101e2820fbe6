//! The lock that orders the writes of all handles of this process on one file, first come, first served.
//!
//! SQLite's own lock is not fair: a waiting connection polls it at growing intervals, and a handle that writes without
//! a pause has usually taken it again by then. So the handles of a process queue here, and only the first one competes
//! with other processes for SQLite's lock.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::runtime::Timer;
use crate::weak_map::WeakMap;

/// The locks of files, by canonical path.
static LOCKS: WeakMap<PathBuf, Mutex<()>> = WeakMap::new();

/// The lock of one file.
#[derive(Debug, Clone)]
pub(crate) struct WriteLock(Arc<Mutex<()>>);

/// The right to write; dropping it lets the next waiting handle write.
#[derive(Debug)]
#[must_use = "dropping the guard releases the lock"]
pub(crate) struct WriteGuard {
    _held: Option<OwnedMutexGuard<()>>,
}

impl WriteGuard {
    /// The guard of a store in memory, which no other handle writes to.
    pub(crate) const IN_MEMORY: Self = Self { _held: None };
}

impl WriteLock {
    pub(crate) fn of(file: PathBuf) -> Self {
        Self(LOCKS.get(file))
    }

    /// Takes the lock, blocking a thread that belongs to no runtime; `None` if it is not free within `limit`.
    pub(crate) fn take(&self, timer: &Timer, limit: Duration) -> Option<WriteGuard> {
        // Fast path for a free lock. It does not overtake waiting handles: a released tokio mutex goes to the first of
        // them.
        let held = match Arc::clone(&self.0).try_lock_owned() {
            Ok(held) => Some(held),
            Err(_) => timer.block_on(limit, Arc::clone(&self.0).lock_owned()),
        };
        held.map(|held| WriteGuard { _held: Some(held) })
    }
}
