//! The jobs in the queue of the writer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kv_core::{Error, Result, Version};
use tokio::sync::oneshot;

use crate::error::Failure;
use crate::writer::rows::Rows;

/// A call that changes the store. The writer applies the call inside a write transaction, so no other connection writes
/// in the meantime.
pub(crate) trait Write: Send + 'static {
    /// The result for the caller, which the writer sends after the commit.
    type Outcome: Send + 'static;

    /// Checks the conditions of the call and applies the call. If a condition does not hold, nothing is changed. The
    /// writer may call this method again after a rollback.
    fn apply(&self, rows: &Rows<'_>) -> Result<Self::Outcome, Failure>;

    /// The writer calls this method after the commit and before the caller gets the outcome.
    fn committed(&self, outcome: &Self::Outcome) {
        let _ = outcome;
    }

    /// Returns the version that a `get` returns after this write; `None` if the write stores no version.
    fn version(&self) -> Option<Version> {
        None
    }

    /// Returns the number of bytes of the values that the call stores.
    fn bytes(&self) -> usize {
        0
    }

    /// True if the call may make the database larger. Such a call is refused if it would use the reserve of free space.
    fn grows(&self) -> bool {
        false
    }
}

/// A job in the queue.
pub(crate) enum Job {
    Write(Box<dyn PendingWrite>),
    /// Syncs the commits that were acknowledged without a sync.
    Flush(oneshot::Sender<Result<()>>),
    /// Ends the writer after all earlier jobs.
    Close,
}

/// A queued write, independent of its type of outcome.
pub(crate) trait PendingWrite: Send {
    /// True if the caller still waits.
    fn has_caller(&self) -> bool;

    /// Claims the write for the writer; false if the caller has given up. If the caller of a claimed write times out,
    /// the outcome is `Indeterminate` and not `Unavailable`.
    fn claim(&self) -> bool;

    /// Applies the write. An error of the call is kept as the outcome. An error of SQLite is returned.
    fn apply(&mut self, rows: &Rows<'_>) -> rusqlite::Result<()>;

    /// Keeps the error as the outcome, instead of applying the write.
    fn refuse(&mut self, error: Error);

    /// Sends the outcome to the caller, after the commit.
    fn committed(self: Box<Self>);

    /// Sends an error to the caller. The function `error` creates this error from the version of the write.
    fn failed(self: Box<Self>, error: &mut dyn FnMut(Option<Version>) -> Error);

    /// Returns the same as [`Write::bytes`].
    fn bytes(&self) -> usize;

    /// Returns the same as [`Write::grows`].
    fn grows(&self) -> bool;
}

/// A write, its outcome, and the channel to its caller.
pub(crate) struct Call<W: Write> {
    write: W,
    outcome: Option<Result<W::Outcome>>,
    reply: oneshot::Sender<Result<W::Outcome>>,
    /// Set by the writer when it claims the write, or by the caller when it times out, whichever is first.
    is_claimed: Arc<AtomicBool>,
}

impl<W: Write> Call<W> {
    pub(crate) fn new(write: W, reply: oneshot::Sender<Result<W::Outcome>>, is_claimed: Arc<AtomicBool>) -> Self {
        Self { write, outcome: None, reply, is_claimed }
    }
}

impl<W: Write> PendingWrite for Call<W> {
    fn has_caller(&self) -> bool {
        !self.reply.is_closed()
    }

    fn claim(&self) -> bool {
        self.has_caller() && !self.is_claimed.swap(true, Ordering::AcqRel)
    }

    fn apply(&mut self, rows: &Rows<'_>) -> rusqlite::Result<()> {
        self.outcome = Some(match self.write.apply(rows) {
            Ok(outcome) => Ok(outcome),
            Err(Failure::Refused(error)) => Err(error),
            Err(Failure::Driver(error)) => return Err(error),
        });
        Ok(())
    }

    fn refuse(&mut self, error: Error) {
        self.outcome = Some(Err(error));
    }

    fn committed(self: Box<Self>) {
        let Self { write, outcome, reply, is_claimed: _ } = *self;
        // If there is no outcome, the write was not applied in this transaction.
        let outcome = outcome.unwrap_or_else(|| Err(Error::unavailable("the write was not applied")));
        if let Ok(outcome) = &outcome {
            write.committed(outcome);
        }
        let _ = reply.send(outcome);
    }

    fn failed(self: Box<Self>, error: &mut dyn FnMut(Option<Version>) -> Error) {
        let error = error(self.write.version());
        let _ = self.reply.send(Err(error));
    }

    fn bytes(&self) -> usize {
        self.write.bytes()
    }

    fn grows(&self) -> bool {
        self.write.grows()
    }
}
