//! The jobs of the writer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kv_core::{Error, Result, Version};
use tokio::sync::oneshot;

use crate::error::Abort;
use crate::writer::rows::Rows;

/// A call that changes the store. It is applied inside the writer's transaction, where no other connection writes.
pub(crate) trait Write: Send + 'static {
    /// The result for the caller, sent after the commit.
    type Outcome: Send + 'static;

    /// Checks the conditions of the call and applies it. A refused call changes nothing. It may be applied again after
    /// a rollback.
    fn apply(&self, rows: &Rows<'_>) -> Result<Self::Outcome, Abort>;

    /// Runs after the commit and before the caller gets the outcome.
    fn committed(&self, outcome: &Self::Outcome) {
        let _ = outcome;
    }

    /// The version that a `get` returns if the write was applied.
    fn version(&self) -> Option<Version> {
        None
    }

    /// The size of the values that it adds to a batch, in bytes.
    fn bytes(&self) -> usize {
        0
    }

    /// True if it may make the database larger. It is refused if that would use the reserve of free space.
    fn grows(&self) -> bool {
        false
    }
}

/// A job in the queue.
pub(crate) enum Job {
    Write(Box<dyn PendingWrite>),
    /// Syncs the commits that were acknowledged without a sync.
    Flush(oneshot::Sender<Result<()>>),
    /// Ends the writer, after all earlier jobs.
    Close,
}

/// A queued write of any outcome type.
pub(crate) trait PendingWrite: Send {
    /// True if the caller still waits.
    fn has_caller(&self) -> bool;

    /// Claims the write for the writer; false if the caller has given up. A claimed write is never `Unavailable` by
    /// timeout.
    fn claim(&self) -> bool;

    /// Applies the write and keeps its outcome, including a refusal.
    fn apply(&mut self, rows: &Rows<'_>) -> rusqlite::Result<()>;

    /// Makes the error the outcome, instead of applying the write.
    fn refuse(&mut self, error: Error);

    /// Sends the outcome to the caller, after the commit.
    fn committed(self: Box<Self>);

    /// Sends an error to the caller. `error` makes it from the version that the write attempted.
    fn failed(self: Box<Self>, error: &mut dyn FnMut(Option<Version>) -> Error);

    /// The size of the values that it adds to a batch, in bytes.
    fn bytes(&self) -> usize;

    /// As [`Write::grows`].
    fn grows(&self) -> bool;
}

/// A write with the channel to its caller.
pub(crate) struct Call<W: Write> {
    write: W,
    outcome: Option<Result<W::Outcome>>,
    reply: oneshot::Sender<Result<W::Outcome>>,
    /// Set by the writer when it claims the write, or by the caller when it gives up, whichever is first.
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
            Err(Abort::Call(error)) => Err(error),
            Err(Abort::Driver(error)) => return Err(error),
        });
        Ok(())
    }

    fn refuse(&mut self, error: Error) {
        self.outcome = Some(Err(error));
    }

    fn committed(self: Box<Self>) {
        let Self { write, outcome, reply, is_claimed: _ } = *self;
        // Without an outcome the write was not applied, so that the commit contains nothing of it.
        let outcome = outcome.unwrap_or_else(|| Err(Error::unavailable("the write was not tried")));
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
