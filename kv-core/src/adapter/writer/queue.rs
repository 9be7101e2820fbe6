//! The sending end of the writer's queue.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::thread;

use futures_util::future::{Either, select};
use tokio::sync::{mpsc, oneshot};

use super::super::io::io_error;
use super::super::records::Records;
use super::health::Health;
use super::job::queued;
use super::worker::{Request, Worker};
use super::{Committer, Pending, WriterOptions};
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::version::Version;

/// Sends writes to the one thread that writes (group commit).
///
/// The thread takes the queued writes, evaluates each in order in one transaction, commits, makes the transaction
/// durable, and acknowledges each write. It also sweeps due entries at intervals of the store's clock. The thread has a
/// runtime of its own, so a store outlives the runtime that opened it (clause R-3).
///
/// - The queue is bounded. A caller waits for a place, and no lock is held meanwhile (clause A-2).
/// - An error of one write is the error of that write alone.
/// - A write whose caller has dropped its future is skipped if it has not begun, and finished otherwise (clause A-1).
/// - After a panic of the database, a call that takes too long, or a failed [`Committer::sync`], later writes fail and
///   nothing hangs.
///
/// Dropping the writer closes the database after the queued writes.
#[derive(Debug)]
pub struct Writer {
    requests: mpsc::Sender<Request>,
    health: Arc<Health>,
}

impl Writer {
    /// Starts the thread and waits until `open` has returned the database. `open` runs on the new thread, so it may
    /// block.
    ///
    /// # Errors
    /// The error of `open`; `Corrupt` if `open` panics; `Capacity` if no thread can be started.
    pub async fn start<C: Committer>(
        clock: Arc<dyn Clock>,
        options: WriterOptions,
        open: impl FnOnce() -> Result<C> + Send + 'static,
    ) -> Result<Self> {
        let (requests, receiver) = mpsc::channel(options.max_queued.max(1));
        let (responder, opened) = oneshot::channel();
        let health = Arc::new(Health::default());
        let (end, ended) = std::sync::mpsc::channel();
        let (watched, timeout) = (Arc::clone(&health), options.operation_timeout);
        spawn(format!("{}-dog", options.thread), move || watched.watch(&ended, timeout))?;
        let (name, worker_health) = (options.thread.clone(), Arc::clone(&health));
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(io_error);
            let opened = runtime.and_then(|runtime| {
                let panicked = |_| Err(Error::corrupt("the database panicked while it opened: its files are damaged"));
                Ok((runtime, catch_unwind(AssertUnwindSafe(open)).unwrap_or_else(panicked)?))
            });
            match opened {
                Ok((runtime, committer)) => {
                    // If the caller has dropped its future, the queue has no sender, and the worker closes at once.
                    let _ = responder.send(Ok(()));
                    runtime.block_on(Worker::new(committer, clock, worker_health, options).run(receiver));
                }
                Err(error) => drop(responder.send(Err(error))),
            }
            drop(end);
        };
        spawn(name, run)?;
        opened.await.unwrap_or_else(|_| Err(Error::unavailable("the writer's thread ended")))?;
        Ok(Self { requests, health })
    }

    /// Sends a write and waits for its response. See [`Writer::send`].
    ///
    /// # Errors
    /// The errors of [`Pending::response`].
    pub async fn write<T: Send + 'static>(
        &self,
        version: Option<Version>,
        bytes: usize,
        evaluate: impl FnMut(&mut dyn Records) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.send(version, bytes, evaluate).await?.response().await
    }

    /// Sends a write and does not wait for its response. Writes are evaluated in the order in which they were sent, so
    /// a batch sends all its writes before it waits for the first response.
    ///
    /// `version` is the version that the write gives to an entry, for an `Indeterminate` error. `bytes` is about the
    /// number of bytes that the write adds to a transaction. `evaluate` is called again if the transaction was not
    /// applied, so it must not move its data out.
    ///
    /// # Errors
    /// `Closed`; `Unavailable` if the database hangs.
    pub async fn send<T: Send + 'static>(
        &self,
        version: Option<Version>,
        bytes: usize,
        evaluate: impl FnMut(&mut dyn Records) -> Result<T> + Send + 'static,
    ) -> Result<Pending<T>> {
        let (job, pending) = queued(&self.health, version, bytes, evaluate);
        self.enqueue(Request::Write(job)).await?;
        Ok(pending)
    }

    /// Waits until all earlier writes are evaluated, and makes them durable.
    ///
    /// # Errors
    /// The error of [`Committer::sync`]; `Closed`; `Unavailable` if the database hangs.
    pub async fn flush(&self) -> Result<()> {
        let (responder, response) = oneshot::channel();
        self.enqueue(Request::Flush(responder)).await?;
        match select(response, pin!(self.health.hung())).await {
            Either::Left((response, _)) => response.unwrap_or_else(|_| Err(Error::closed())),
            Either::Right(_) => Err(Health::error()),
        }
    }

    /// Finishes the earlier writes, closes the database and releases its files. Closing again succeeds.
    ///
    /// # Errors
    /// The error of [`Committer::close`]; `Unavailable` if the database hangs, and then its files stay open until
    /// the hanging call ends and the writer is dropped.
    pub async fn close(&self) -> Result<()> {
        let (responder, response) = oneshot::channel();
        let closed = pin!(async {
            match self.requests.send(Request::Close(responder)).await {
                Ok(()) => response.await.unwrap_or(Ok(())),
                Err(_) => Ok(()),
            }
        });
        match select(closed, pin!(self.health.hung())).await {
            Either::Left((closed, _)) => closed,
            Either::Right(_) => Err(Health::error()),
        }
    }

    /// Queues a request, and waits while the queue is full.
    async fn enqueue(&self, request: Request) -> Result<()> {
        if self.health.is_hung() {
            return Err(Health::error());
        }
        // Try without waiting first: usually the queue has space.
        let request = match self.requests.try_send(request) {
            Ok(()) => return Ok(()),
            Err(mpsc::error::TrySendError::Full(request)) => request,
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(Error::closed()),
        };
        match select(pin!(self.requests.send(request)), pin!(self.health.hung())).await {
            Either::Left((sent, _)) => sent.map_err(|_| Error::closed()),
            Either::Right(_) => Err(Health::error()),
        }
    }
}

fn spawn(name: String, run: impl FnOnce() + Send + 'static) -> Result<()> {
    match thread::Builder::new().name(name).spawn(run) {
        Ok(_detached) => Ok(()),
        Err(error) => Err(Error::capacity("no thread can be started for the store").with_source(error)),
    }
}
