//! The queue of the writer, and the replies of the writer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kv_core::adapter::Effect;
use kv_core::{Error, Result, Version};
use tokio::sync::{mpsc, oneshot};

use crate::runtime::Timer;
use crate::writer::job::{Call, Job, Write};

/// The maximum number of jobs in the queue. If the queue is full, a call waits within its timeout.
const MAX_JOBS: usize = 4_096;

/// The sending end of the queue. The writer runs as long as a `Queue` exists.
#[derive(Debug, Clone)]
pub(crate) struct Queue {
    jobs: mpsc::Sender<Job>,
    timer: Timer,
    timeout: Duration,
}

/// A sending end that does not keep the writer running.
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
        let (jobs, receiver) = mpsc::channel(MAX_JOBS);
        (Self { jobs, timer, timeout }, receiver)
    }

    pub(crate) fn downgrade(&self) -> WeakQueue {
        let Self { jobs, timer, timeout } = self;
        WeakQueue { jobs: jobs.downgrade(), timer: timer.clone(), timeout: *timeout }
    }

    /// Queues a write and waits until it is committed.
    ///
    /// # Errors
    /// The errors of [`Queue::submit`] and [`Reply::wait`].
    pub(crate) async fn call<W: Write>(&self, write: W) -> Result<W::Outcome> {
        self.submit(write).await?.wait().await
    }

    /// Queues a write.
    ///
    /// # Errors
    /// `Closed`, or `Unavailable` if the queue stays full for the timeout. Then the write was not applied.
    pub(crate) async fn submit<W: Write>(&self, write: W) -> Result<Reply<W::Outcome>> {
        let (version, is_claimed) = (write.version(), Arc::new(AtomicBool::new(false)));
        let (reply, receiver) = oneshot::channel();
        let call = Call::new(write, reply, Arc::clone(&is_claimed));
        self.send(Job::Write(Box::new(call))).await?;
        Ok(Reply { receiver, is_claimed, version, timer: self.timer.clone(), timeout: self.timeout })
    }

    async fn send(&self, job: Job) -> Result<()> {
        match self.jobs.try_send(job) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(Error::closed()),
            Err(mpsc::error::TrySendError::Full(job)) => {
                match self.timer.limit(self.timeout, self.jobs.send(job)).await {
                    Some(sent) => sent.map_err(|_| Error::closed()),
                    None => Err(Error::unavailable(format!("the queue of writes was full for {:?}", self.timeout))),
                }
            }
        }
    }

    /// Waits until all earlier acknowledged writes are synced.
    ///
    /// # Errors
    /// `Closed`, `Unavailable` if the sync fails or does not end within the timeout, and the errors of the check that
    /// the files are still in place.
    pub(crate) async fn flush(&self) -> Result<()> {
        let (reply, receiver) = oneshot::channel();
        self.send(Job::Flush(reply)).await?;
        match self.timer.limit(self.timeout, receiver).await {
            Some(reply) => reply.unwrap_or_else(|_| Err(Error::closed())),
            None => Err(Error::unavailable(format!("the sync did not end within {:?}", self.timeout))),
        }
    }

    /// Awaits a future; `None` if it is not ready within the timeout of a call.
    pub(crate) async fn limit<F: Future>(&self, future: F) -> Option<F::Output> {
        self.timer.limit(self.timeout, future).await
    }

    /// Ends the writer after the queued jobs. If the queue is full, this call does nothing, because the writer checks
    /// after each batch whether the store was closed.
    pub(crate) fn close(&self) {
        let _ = self.jobs.try_send(Job::Close);
    }
}

/// The pending reply to a queued write.
#[derive(Debug)]
pub(crate) struct Reply<T> {
    receiver: oneshot::Receiver<Result<T>>,
    is_claimed: Arc<AtomicBool>,
    version: Option<Version>,
    timer: Timer,
    timeout: Duration,
}

impl<T> Reply<T> {
    /// Waits until the write is committed.
    ///
    /// # Errors
    /// - The errors of the write.
    /// - `Unavailable`: the writer did not claim the write within the timeout. The write will never be applied.
    /// - `Indeterminate`: the writer claimed the write, but did not reply within the timeout.
    pub(crate) async fn wait(self) -> Result<T> {
        let Self { receiver, is_claimed, version, timer, timeout } = self;
        let effect = Effect::Write(version);
        match timer.limit(timeout, receiver).await {
            Some(Ok(outcome)) => outcome,
            Some(Err(_)) if is_claimed.load(Ordering::Acquire) => {
                Err(effect.unanswered("the writer ended before it replied"))
            }
            // The writer dropped the write without claiming it, so the write was not applied.
            Some(Err(_)) => Err(Error::closed()),
            None if is_claimed.swap(true, Ordering::AcqRel) => {
                Err(effect.unanswered(format!("the writer did not reply within {timeout:?}")))
            }
            None => Err(Error::unavailable(format!("the writer did not begin the write within {timeout:?}"))),
        }
    }
}
