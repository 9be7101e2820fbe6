//! The way of a call to the writer and back, within its deadline.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kv_core::{Error, Result, Version};
use tokio::sync::{mpsc, oneshot};

use crate::batch::Batch;
use crate::error::Abort;
use crate::keeper::Timer;
use crate::write::Write;

/// How many calls wait for the writer at most; more wait for room, as long as their deadlines let them.
const MAX_WAITING: usize = 4_096;

/// What the writer is given.
pub(crate) enum Job {
    Write(Box<dyn Pending>),
    /// Syncs what was acknowledged without a sync.
    Flush(oneshot::Sender<Result<()>>),
    /// Ends the writer, behind all that came before.
    Close,
}

/// A call under way, whatever its outcome is.
pub(crate) trait Pending: Send {
    /// Whether the caller still waits.
    fn is_wanted(&self) -> bool;

    /// Takes the call over from its caller, or says by `false` that the caller has given up.
    fn claim(&self) -> bool;

    /// Applies it, keeping the outcome, also that of a call that is refused.
    fn apply(&mut self, batch: &Batch<'_>) -> rusqlite::Result<()>;

    /// Tells the caller, after the commit.
    fn committed(self: Box<Self>);

    /// Tells the caller that it failed; the error is made from the version that the call attempted.
    fn failed(self: Box<Self>, error: &mut dyn FnMut(Option<Version>) -> Error);

    /// How much it adds to a batch, in bytes.
    fn bytes(&self) -> usize;
}

struct Call<W: Write> {
    write: W,
    outcome: Option<Result<W::Outcome>>,
    reply: oneshot::Sender<Result<W::Outcome>>,
    is_claimed: Arc<AtomicBool>,
}

impl<W: Write> Pending for Call<W> {
    fn is_wanted(&self) -> bool {
        !self.reply.is_closed()
    }

    fn claim(&self) -> bool {
        self.is_wanted() && !self.is_claimed.swap(true, Ordering::AcqRel)
    }

    fn apply(&mut self, batch: &Batch<'_>) -> rusqlite::Result<()> {
        self.outcome = Some(match self.write.apply(batch) {
            Ok(outcome) => Ok(outcome),
            Err(Abort::Call(error)) => Err(error),
            Err(Abort::Driver(error)) => return Err(error),
        });
        Ok(())
    }

    fn committed(self: Box<Self>) {
        let Self { write, outcome, reply, is_claimed: _ } = *self;
        // Without an outcome it was not applied, and nothing is committed of it.
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
}

/// The way to the writer. It stays open as long as one is there.
#[derive(Debug, Clone)]
pub(crate) struct Queue {
    jobs: mpsc::Sender<Job>,
    timer: Timer,
    timeout: Duration,
}

/// A way that does not keep the writer alive.
#[derive(Debug)]
pub(crate) struct WeakQueue {
    jobs: mpsc::WeakSender<Job>,
    timer: Timer,
    timeout: Duration,
}

impl WeakQueue {
    pub(crate) fn upgrade(&self) -> Option<Queue> {
        let Self { jobs, timer, timeout } = self;
        Some(Queue { jobs: jobs.upgrade()?, timer: timer.clone(), timeout: *timeout })
    }
}

impl Queue {
    pub(crate) fn new(timer: Timer, timeout: Duration) -> (Self, mpsc::Receiver<Job>) {
        let (jobs, waiting) = mpsc::channel(MAX_WAITING);
        (Self { jobs, timer, timeout }, waiting)
    }

    pub(crate) fn downgrade(&self) -> WeakQueue {
        let Self { jobs, timer, timeout } = self;
        WeakQueue { jobs: jobs.downgrade(), timer: timer.clone(), timeout: *timeout }
    }

    /// Has a write applied, and waits until it is committed.
    ///
    /// # Errors
    /// As [`Queue::submit`] and [`Answer::wait`].
    pub(crate) async fn call<W: Write>(&self, write: W) -> Result<W::Outcome> {
        self.submit(write).await?.wait().await
    }

    /// Puts a write behind those that wait.
    ///
    /// # Errors
    /// `Closed`, and `Unavailable` where there is no room for too long. Nothing happened.
    pub(crate) async fn submit<W: Write>(&self, write: W) -> Result<Answer<W::Outcome>> {
        let (version, is_claimed) = (write.version(), Arc::new(AtomicBool::new(false)));
        let (reply, received) = oneshot::channel();
        let call = Call { write, outcome: None, reply, is_claimed: Arc::clone(&is_claimed) };
        self.send(Job::Write(Box::new(call))).await?;
        Ok(Answer { received, is_claimed, version, timer: self.timer.clone(), timeout: self.timeout })
    }

    async fn send(&self, job: Job) -> Result<()> {
        match self.jobs.try_send(job) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(Error::closed()),
            Err(mpsc::error::TrySendError::Full(job)) => {
                match self.timer.limit(self.timeout, self.jobs.send(job)).await {
                    Some(sent) => sent.map_err(|_| Error::closed()),
                    None => Err(Error::unavailable(format!("too many writes were waiting for {:?}", self.timeout))),
                }
            }
        }
    }

    /// Waits until what was acknowledged before is synced.
    pub(crate) async fn flush(&self) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        self.send(Job::Flush(reply)).await?;
        match self.timer.limit(self.timeout, answer).await {
            Some(answer) => answer.unwrap_or_else(|_| Err(Error::closed())),
            None => Err(Error::unavailable(format!("no sync within {:?}", self.timeout))),
        }
    }

    /// What the future gives within the deadline of a call.
    pub(crate) async fn limit<F: Future>(&self, future: F) -> Option<F::Output> {
        self.timer.limit(self.timeout, future).await
    }

    /// Ends the writer behind what waits. A writer that finds its queue full finds out by itself that it is closed.
    pub(crate) fn close(&self) {
        let _ = self.jobs.try_send(Job::Close);
    }
}

/// The answer to a write that waits.
#[derive(Debug)]
pub(crate) struct Answer<T> {
    received: oneshot::Receiver<Result<T>>,
    is_claimed: Arc<AtomicBool>,
    version: Option<Version>,
    timer: Timer,
    timeout: Duration,
}

impl<T> Answer<T> {
    /// Waits until the write is committed.
    ///
    /// # Errors
    /// Those of the write. `Unavailable` where the writer has not begun by the deadline: nothing happened, and nothing
    /// will. `Indeterminate` where it has begun and does not answer.
    pub(crate) async fn wait(self) -> Result<T> {
        let Self { received, is_claimed, version, timer, timeout } = self;
        match timer.limit(timeout, received).await {
            Some(Ok(answer)) => answer,
            // A call that was dropped unclaimed was never begun.
            Some(Err(_)) if is_claimed.load(Ordering::Acquire) => {
                Err(Error::indeterminate(version, "the writer ended before it answered"))
            }
            Some(Err(_)) => Err(Error::closed()),
            None if is_claimed.swap(true, Ordering::AcqRel) => {
                Err(Error::indeterminate(version, format!("the writer did not answer within {timeout:?}")))
            }
            None => Err(Error::unavailable(format!("the writer was busy for {timeout:?}"))),
        }
    }
}
