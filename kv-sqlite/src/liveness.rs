//! Agreement between reads and the open batch about which entries are live.
//!
//! The writer checks at one moment whether an entry is live, and the commit makes the effect visible later. The entry
//! may expire in between. A reader could then find it expired before the commit, although a conditional write succeeds
//! because the entry was live; no order of the two calls explains both outcomes. So the writer registers each key
//! before it compares the deadline with the clock, and a reader that finds such an entry expired waits for the batch
//! and reads again. No other read waits: a live or a missing entry is returned at once.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kv_core::{Clock, Deadline, Key};
use tokio::sync::watch;

/// The keys whose liveness the open batch has checked. The writer and the readers of a handle share it.
#[derive(Debug)]
pub(crate) struct CheckedKeys {
    keys: Mutex<HashSet<Key>>,
    /// The number of batches that checked a key and have ended.
    ended: watch::Sender<u64>,
}

impl CheckedKeys {
    pub(crate) fn new() -> Self {
        Self { keys: Mutex::default(), ended: watch::Sender::new(0) }
    }

    /// Registers a key. The writer reads the clock only after this.
    pub(crate) fn register(&self, key: &Key) {
        self.keys().insert(key.clone());
    }

    /// Ends the batch, after its commit or rollback.
    pub(crate) fn end_batch(&self) {
        let mut keys = self.keys();
        if !keys.is_empty() {
            keys.clear();
            self.ended.send_modify(|ended| *ended += 1);
        }
    }

    /// The number of ended batches. A reader takes it before it reads.
    pub(crate) fn ended(&self) -> u64 {
        *self.ended.borrow()
    }

    /// True if a reader may report these keys as expired: since it took `ended`, no batch has checked one of them.
    pub(crate) fn may_report_expired(&self, ended: u64, expired: &[Key]) -> bool {
        if expired.is_empty() {
            return true;
        }
        let keys = self.keys();
        self.ended() == ended && !expired.iter().any(|key| keys.contains(key))
    }

    /// Waits until a batch has ended since the reader took `ended`.
    pub(crate) async fn batch_ended_since(&self, ended: u64) {
        // The sender is a field of `self`, so that waiting cannot fail.
        let _ = self.ended.subscribe().wait_for(|now| *now != ended).await;
    }

    fn keys(&self) -> MutexGuard<'_, HashSet<Key>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Checks the entries of one read by the time after they were read, and collects the expired ones.
#[derive(Debug)]
pub(crate) struct Liveness<'c> {
    clock: &'c dyn Clock,
    expired: Vec<Key>,
}

impl<'c> Liveness<'c> {
    pub(crate) fn new(clock: &'c dyn Clock) -> Self {
        Self { clock, expired: Vec::new() }
    }

    /// The keys that were found expired.
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
