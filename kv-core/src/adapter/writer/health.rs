//! The watchdog of the writer's thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::error::Error;
use crate::moment::Moment;

/// The health of the database. A call of a database can hang, for example on a disk that does not answer. Callers must
/// not hang with it (clause E-2).
#[derive(Debug, Default)]
pub(super) struct Health {
    busy_since: Mutex<Option<Moment>>,
    is_hung: AtomicBool,
    hung: watch::Sender<bool>,
}

/// A call of the database that has begun and not ended.
pub(super) struct Busy<'h>(&'h Health);

impl Health {
    /// Notes that a call of the database begins.
    pub(super) fn begin(&self) -> Busy<'_> {
        *self.busy_since() = Some(Moment::now());
        Busy(self)
    }

    /// True after a call of the database took too long. It stays true after the call has ended, because the callers were
    /// told that their writes failed.
    pub(super) fn is_hung(&self) -> bool {
        // `SeqCst`, because the worker and a caller must see this flag and the start of a write in one order: see
        // `Worker::try_write`.
        self.is_hung.load(Ordering::SeqCst)
    }

    /// Waits until a call of the database takes too long.
    pub(super) async fn hung(&self) {
        let mut hung = self.hung.subscribe();
        // `self` keeps the sender alive, so waiting cannot fail.
        let _ = hung.wait_for(|hung| *hung).await;
    }

    /// Returns the error of a write that was not started.
    pub(super) fn error() -> Error {
        Error::unavailable("the database does not answer: open the store again")
    }

    /// Watches until the worker drops the sender of `ended`.
    pub(super) fn watch(self: &Arc<Self>, ended: &Receiver<()>, timeout: Duration) {
        while ended.recv_timeout(timeout / 4) == Err(RecvTimeoutError::Timeout) {
            let since = *self.busy_since();
            if since.is_some_and(|since| since.elapsed() >= timeout) {
                self.is_hung.store(true, Ordering::SeqCst);
                self.hung.send_replace(true);
            }
        }
    }

    fn busy_since(&self) -> MutexGuard<'_, Option<Moment>> {
        self.busy_since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        *self.0.busy_since() = None;
    }
}
