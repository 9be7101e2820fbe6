//! The queue of gets that are sent together.

use std::sync::atomic::{AtomicUsize, Ordering};

use kv_core::{Entry, Key, Result};
use parking_lot::Mutex;
use tokio::sync::oneshot;

/// The number of gets in flight at which a further get is sent together with others. With fewer gets in flight, a
/// separate command gets its reply sooner.
const COALESCE_ABOVE: usize = 32;

/// The maximum number of keys in one command.
const MAX_KEYS: usize = 128;

/// The maximum size of the reply to one command in bytes, by estimate.
const MAX_REPLY_BYTES: usize = 1 << 20;

/// The queued gets of a store, and the numbers that decide how many gets are sent together.
#[derive(Debug, Default)]
pub(crate) struct GetQueue {
    /// The number of gets in flight, queued or sent.
    in_flight: AtomicUsize,
    /// The estimated length of a value in bytes, from recent replies.
    value_bytes: AtomicUsize,
    pending: Mutex<Vec<PendingGet>>,
}

/// A queued get.
#[derive(Debug)]
pub(crate) struct PendingGet {
    pub(crate) key: Key,
    pub(crate) reply: oneshot::Sender<Result<Option<Entry>>>,
}

/// A guard that counts a get as in flight until the guard is dropped.
pub(crate) struct InFlight<'q>(&'q GetQueue);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl GetQueue {
    /// Counts a get as in flight. The flag is true if so many other gets are in flight that this get should be sent
    /// together with others.
    pub(crate) fn begin(&self) -> (InFlight<'_>, bool) {
        let others = self.in_flight.fetch_add(1, Ordering::Relaxed);
        (InFlight(self), others >= COALESCE_ABOVE)
    }

    /// Updates the estimate of value lengths with a result. Concurrent updates may overwrite each other. This does not
    /// harm an estimate.
    pub(crate) fn observe(&self, result: &Result<Option<Entry>>) {
        let Ok(Some(entry)) = result else { return };
        let (before, now) = (self.value_bytes.load(Ordering::Relaxed), entry.value.len());
        if before != now {
            // The estimate rises at once and falls slowly, so that a few short values do not lead to a huge reply.
            self.value_bytes.store(now.max(before - before.div_ceil(16)), Ordering::Relaxed);
        }
    }

    /// Returns the maximum number of keys in the next command, by the estimate of value lengths; 0 if one value may
    /// exceed the maximum size of a reply.
    pub(crate) fn keys_per_command(&self) -> usize {
        (MAX_REPLY_BYTES / self.value_bytes.load(Ordering::Relaxed).max(1)).min(MAX_KEYS)
    }

    /// Queues a get. Returns true if the queue was empty. Then the caller must start the task that sends the queue.
    pub(crate) fn push(&self, get: PendingGet) -> bool {
        let mut pending = self.pending.lock();
        pending.push(get);
        pending.len() == 1
    }

    /// Removes and returns all queued gets.
    pub(crate) fn take(&self) -> Vec<PendingGet> {
        std::mem::take(&mut *self.pending.lock())
    }
}
