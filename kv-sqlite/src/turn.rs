//! The order in which the handles of one process write to one file.
//!
//! SQLite's lock is not served in turn: who waits for it looks again and again, at growing intervals, and a handle that
//! writes without a pause has taken it anew by then. So the handles of a process queue here, first come, first served,
//! and only the first of them competes with other processes.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::commons::Commons;
use crate::keeper::Timer;

/// The queues of files, by canonical path.
static QUEUES: Commons<PathBuf, Mutex<()>> = Commons::new();

/// The queue of one file.
#[derive(Debug, Clone)]
pub(crate) struct Turns(Arc<Mutex<()>>);

/// The turn of the handle that holds it; the next one's comes when it is dropped.
#[derive(Debug)]
#[must_use = "a turn ends when it is dropped"]
pub(crate) struct Turn {
    _held: Option<OwnedMutexGuard<()>>,
}

impl Turn {
    /// The turn of a handle beside which there is no other.
    pub(crate) const ALONE: Self = Self { _held: None };
}

impl Turns {
    pub(crate) fn of(file: PathBuf) -> Self {
        Self(QUEUES.get(file))
    }

    /// Waits on this thread, which belongs to no runtime, until it is this handle's turn.
    pub(crate) fn wait(&self, timer: &Timer, limit: Duration) -> Option<Turn> {
        // Most often nobody is there; tokio's lock lets nobody in here past those that wait.
        let held = match Arc::clone(&self.0).try_lock_owned() {
            Ok(held) => Some(held),
            Err(_) => timer.block_on(limit, Arc::clone(&self.0).lock_owned()),
        };
        held.map(|held| Turn { _held: Some(held) })
    }
}
