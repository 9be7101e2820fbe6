//! The queue of gets that are sent together.

use std::sync::atomic::{AtomicUsize, Ordering};

use kv_core::{Entry, Key, Result};
use parking_lot::Mutex;
use tokio::sync::oneshot;

/// The number of gets in flight above which further gets are sent together. Below it, a command of its own is answered
/// sooner.
const COALESCE_ABOVE: usize = 32;

/// Limits of one command: its keys, and the estimated bytes of its reply.
const MAX_KEYS: usize = 128;
const MAX_BYTES: usize = 1 << 20;

#[derive(Debug, Default)]
pub(crate) struct GetQueue {
    in_flight: AtomicUsize,
    /// The estimated length of a value in bytes, from recent replies.
    value_bytes: AtomicUsize,
    pending: Mutex<Vec<PendingGet>>,
}

#[derive(Debug)]
pub(crate) struct PendingGet {
    pub(crate) key: Key,
    pub(crate) reply: oneshot::Sender<Result<Option<Entry>>>,
}

/// Counts a get as in flight until it is dropped.
pub(crate) struct InFlight<'q>(&'q GetQueue);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl GetQueue {
    /// Counts a get. The flag is true if so many are in flight that this one should be sent with others.
    pub(crate) fn begin(&self) -> (InFlight<'_>, bool) {
        let others = self.in_flight.fetch_add(1, Ordering::Relaxed);
        (InFlight(self), others >= COALESCE_ABOVE)
    }

    /// Updates the estimate of value lengths. Concurrent updates may overwrite each other; an estimate can bear that.
    pub(crate) fn observe(&self, result: &Result<Option<Entry>>) {
        let Ok(Some(entry)) = result else { return };
        let (before, now) = (self.value_bytes.load(Ordering::Relaxed), entry.value.len());
        if before != now {
            // The estimate rises at once and falls slowly.
            self.value_bytes.store(now.max(before - before.div_ceil(16)), Ordering::Relaxed);
        }
    }

    /// The number of keys that one command may have.
    pub(crate) fn keys_per_command(&self) -> usize {
        (MAX_BYTES / self.value_bytes.load(Ordering::Relaxed).max(1)).min(MAX_KEYS)
    }

    /// Queues a get. Returns true if it is the first, whose caller must start the task that sends the queue.
    pub(crate) fn push(&self, get: PendingGet) -> bool {
        let mut pending = self.pending.lock();
        pending.push(get);
        pending.len() == 1
    }

    pub(crate) fn take(&self) -> Vec<PendingGet> {
        std::mem::take(&mut *self.pending.lock())
    }
}
