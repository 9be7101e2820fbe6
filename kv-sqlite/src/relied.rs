//! Which entries a batch in flight relies on being live.
//!
//! Between the moment at which the writer judges an entry and the commit that shows its decision, the entry may expire. A reader
//! that sees it expired then, and a conditional write that has happened because it was live, fit into no order. So the
//! writer names what it relies on before it looks at the clock, and a reader that finds such an entry expired waits for
//! the batch and reads again. Nothing else waits: a live entry, or a missing one, is answered at once.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kv_core::Key;
use tokio::sync::watch;

/// Shared by the writer and the readers of a handle.
#[derive(Debug)]
pub(crate) struct Relied {
    keys: Mutex<HashSet<Key>>,
    /// How many batches that relied on something have ended.
    ended: watch::Sender<u64>,
}

impl Relied {
    pub(crate) fn new() -> Self {
        Self { keys: Mutex::default(), ended: watch::Sender::new(0) }
    }

    /// Names an entry. The clock is read after this.
    pub(crate) fn rely(&self, key: &Key) {
        self.keys().insert(key.clone());
    }

    /// Ends the batch, after its commit or rollback.
    pub(crate) fn end(&self) {
        let mut keys = self.keys();
        if !keys.is_empty() {
            keys.clear();
            self.ended.send_modify(|ended| *ended += 1);
        }
    }

    /// The moment before a read, for [`Relied::settled`].
    pub(crate) fn mark(&self) -> u64 {
        *self.ended.borrow()
    }

    /// Whether what a read since `mark` has found expired may be told: no batch relied on it meanwhile.
    pub(crate) fn is_settled(&self, mark: u64, expired: &[Key]) -> bool {
        if expired.is_empty() {
            return true;
        }
        let keys = self.keys();
        self.mark() == mark && !expired.iter().any(|key| keys.contains(key))
    }

    /// Waits until a batch has ended since `mark`.
    pub(crate) async fn settled(&self, mark: u64) {
        // The sender is `self`, so waiting does not fail.
        let _ = self.ended.subscribe().wait_for(|ended| *ended != mark).await;
    }

    fn keys(&self) -> MutexGuard<'_, HashSet<Key>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
