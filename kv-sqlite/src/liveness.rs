//! Prevents a read from reporting an entry as expired while a write that saw the entry live is not yet committed.
//!
//! The writer checks if an entry is live, and the effect of the write becomes visible only with the later commit. The
//! entry may expire in between. Then a reader could report the entry as expired before the commit, although the write
//! succeeds because the entry was live. No order of the two calls explains both outcomes.
//!
//! Therefore the writer registers each key before it compares the deadline of the entry with the clock. A reader that
//! finds an expired entry with a registered key waits for the end of the batch and reads again. No other read waits: a
//! live or a missing entry is returned at once.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kv_core::{Clock, Deadline, Key};
use tokio::sync::watch;

/// The keys whose deadlines the open batch has compared with the clock. The writer and the readers of a handle share
/// this set.
#[derive(Debug)]
pub(crate) struct CheckedKeys {
    keys: Mutex<HashSet<Key>>,
    /// The number of batches that have registered a key and have ended.
    ended_batches: watch::Sender<u64>,
}

impl CheckedKeys {
    pub(crate) fn new() -> Self {
        Self { keys: Mutex::default(), ended_batches: watch::Sender::new(0) }
    }

    /// Registers a key. The writer calls this method before it reads the clock.
    pub(crate) fn register(&self, key: &Key) {
        self.keys().insert(key.clone());
    }

    /// Ends the batch. The writer calls this method after the commit or rollback.
    pub(crate) fn end_batch(&self) {
        let mut keys = self.keys();
        if !keys.is_empty() {
            keys.clear();
            self.ended_batches.send_modify(|ended| *ended += 1);
        }
    }

    /// Returns the number of ended batches. A reader calls this method before it reads.
    pub(crate) fn ended_batches(&self) -> u64 {
        *self.ended_batches.borrow()
    }

    /// True if a reader may report these keys as expired: no batch with registered keys has ended since the reader took
    /// `ended`, and the open batch has registered none of these keys.
    pub(crate) fn may_report_expired(&self, ended: u64, expired: &[Key]) -> bool {
        if expired.is_empty() {
            return true;
        }
        let keys = self.keys();
        self.ended_batches() == ended && !expired.iter().any(|key| keys.contains(key))
    }

    /// Waits until the number of ended batches is no longer `ended`.
    pub(crate) async fn batch_ended_since(&self, ended: u64) {
        // Waiting cannot fail, because the sender is a field of `self`.
        let _ = self.ended_batches.subscribe().wait_for(|now| *now != ended).await;
    }

    fn keys(&self) -> MutexGuard<'_, HashSet<Key>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Checks the deadlines of the entries of one read, and collects the keys of the expired entries.
#[derive(Debug)]
pub(crate) struct Liveness<'c> {
    clock: &'c dyn Clock,
    expired: Vec<Key>,
}

impl<'c> Liveness<'c> {
    pub(crate) fn new(clock: &'c dyn Clock) -> Self {
        Self { clock, expired: Vec::new() }
    }

    /// Returns the keys of the expired entries.
    pub(crate) fn expired(&self) -> &[Key] {
        &self.expired
    }

    pub(crate) fn is_live(&mut self, key: &Key, deadline: Deadline) -> bool {
        let is_live = deadline == Deadline::NEVER || !deadline.has_passed(self.clock.now());
        if !is_live {
            self.expired.push(key.clone());
        }
        is_live
    }
}
