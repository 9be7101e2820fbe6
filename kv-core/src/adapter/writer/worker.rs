//! The writer's thread.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::sync::{mpsc, oneshot};

use super::super::commit_error::CommitError;
use super::super::evaluate;
use super::super::records::Records;
use super::health::Health;
use super::{Committer, Job, WriterOptions};
use crate::clock::Clock;
use crate::error::{Error, Result};

/// The maximum number of items of the deadline index that one transaction of the sweeper reads.
const MAX_SWEPT: usize = 1_000;

/// A request to the writer's thread.
pub(super) enum Request {
    Write(Box<dyn Job>),
    Flush(oneshot::Sender<Result<()>>),
    Close(oneshot::Sender<Result<()>>),
}

/// The state of the writer's thread.
pub(super) struct Worker<C> {
    committer: C,
    clock: Arc<dyn Clock>,
    health: Arc<Health>,
    options: WriterOptions,
    /// The error of every later write, after a failure that cannot be repaired.
    broken: Option<Error>,
}

/// The reason why the worker ended.
type Closing = Option<oneshot::Sender<Result<()>>>;

impl<C: Committer> Worker<C> {
    pub(super) fn new(committer: C, clock: Arc<dyn Clock>, health: Arc<Health>, options: WriterOptions) -> Self {
        Self { committer, clock, health, options, broken: None }
    }

    /// Runs until the store is closed or its last handle is dropped.
    pub(super) async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let clock = Arc::clone(&self.clock);
        let mut sweep = clock.sleep(self.options.sweep_interval);
        let closing: Closing = loop {
            let received = match select(sweep.as_mut(), pin!(requests.recv())).await {
                Either::Left(((), _)) => None,
                Either::Right((request, _)) => Some(request),
            };
            let request = match received {
                None => {
                    let has_more = self.sweep();
                    sweep = clock.sleep(if has_more { Duration::ZERO } else { self.options.sweep_interval });
                    // Between two transactions of a long sweep, the queued writes have their turn.
                    requests.try_recv().ok()
                }
                Some(Some(request)) => Some(request),
                Some(None) => break None,
            };
            if let Some(closing) = request.and_then(|request| self.handle(request, &mut requests)) {
                break Some(closing);
            }
        };
        let closed = catch_unwind(AssertUnwindSafe(|| self.committer.close()))
            .unwrap_or_else(|_| Err(Error::defect("the database panicked while it closed")));
        requests.close();
        while let Ok(request) = requests.try_recv() {
            match request {
                Request::Write(job) => job.fail(&CommitError::NotApplied(Error::closed())),
                Request::Flush(responder) => drop(responder.send(Err(Error::closed()))),
                Request::Close(responder) => drop(responder.send(Ok(()))),
            }
        }
        if let Some(responder) = closing {
            let _ = responder.send(closed);
        }
    }

    /// Handles a request and the writes that are queued behind it. Returns the responder of a request to close.
    fn handle(&mut self, first: Request, requests: &mut mpsc::Receiver<Request>) -> Closing {
        let (mut jobs, mut bytes, mut next) = (Vec::new(), 0, Some(first));
        while let Some(Request::Write(job)) = next {
            bytes += job.bytes();
            jobs.push(job);
            let is_full = jobs.len() >= self.options.max_batch || bytes >= self.options.max_batch_bytes;
            next = if is_full { None } else { requests.try_recv().ok() };
        }
        self.write(jobs);
        match next? {
            // Unreachable, because the loop takes every write.
            Request::Write(job) => self.write(vec![job]),
            Request::Flush(responder) => {
                let flushed = self.guard(C::sync);
                let _ = responder.send(flushed);
            }
            Request::Close(responder) => return Some(responder),
        }
        None
    }

    /// Writes a batch, and sends each response.
    fn write(&mut self, mut jobs: Vec<Box<dyn Job>>) {
        jobs.retain(|job| !job.is_abandoned());
        if jobs.is_empty() {
            return;
        }
        match self.try_write(&mut jobs) {
            Ok(()) => jobs.into_iter().for_each(Job::acknowledge),
            // One write may have failed the whole transaction. Alone, it fails only itself.
            Err(CommitError::NotApplied(_)) if jobs.len() > 1 => jobs.into_iter().for_each(|job| self.write(vec![job])),
            Err(failure) => jobs.into_iter().for_each(|job| job.fail(&failure)),
        }
    }

    fn try_write(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<(), CommitError> {
        let health = Arc::clone(&self.health);
        self.commit(&mut |records| {
            for job in &mut *jobs {
                job.start();
                // If a caller sees that the database hangs and its write was not started, the caller gets an error that
                // means "not applied". Therefore check the health after `start`: either the caller sees that the write
                // was started, or this thread sees that the database hung.
                if health.is_hung() {
                    return Err(Health::error());
                }
                records.begin_call();
                job.evaluate(records);
                if job.has_failed() && records.has_changed() {
                    return Err(Error::unavailable("a write failed after its first change"));
                }
            }
            Ok(())
        })
    }

    /// Removes one batch of due entries. Returns true if there may be more.
    fn sweep(&mut self) -> bool {
        let mut has_more = false;
        let swept = self.commit(&mut |records| {
            records.begin_call();
            has_more = evaluate::sweep(records, MAX_SWEPT)?.1;
            Ok(())
        });
        // A failed sweep is repeated after the interval.
        swept.is_ok() && has_more
    }

    /// Commits a transaction and makes it durable.
    fn commit(&mut self, work: &mut dyn FnMut(&mut dyn Records) -> Result<()>) -> Result<(), CommitError> {
        if self.guard(|committer| committer.transact(work))? {
            let synced = self.guard(|committer| committer.sync().map_err(CommitError::Unknown));
            if let Err(CommitError::Unknown(error)) = &synced {
                let message = "an earlier write could not be made durable: open the store again";
                self.broken.get_or_insert_with(|| Error::unavailable(message).with_source(error.clone()));
            }
            return synced;
        }
        Ok(())
    }

    /// Calls the database, unless it is broken. A panic breaks it.
    fn guard<T, E: FromBroken>(&mut self, call: impl FnOnce(&mut C) -> Result<T, E>) -> Result<T, E> {
        if self.health.is_hung() {
            self.broken.get_or_insert_with(Health::error);
        }
        if let Some(error) = &self.broken {
            return Err(E::from_broken(Broken::Earlier(error.clone())));
        }
        let health = Arc::clone(&self.health);
        let _busy = health.begin();
        catch_unwind(AssertUnwindSafe(|| call(&mut self.committer))).unwrap_or_else(|_| {
            let error = Error::defect("the database panicked: open the store again");
            self.broken = Some(error.clone());
            let _ = catch_unwind(AssertUnwindSafe(|| self.committer.suspend()));
            Err(E::from_broken(Broken::Now(error)))
        })
    }
}

/// The failure of a call that broke the database, or of a later call.
enum Broken {
    /// The call itself panicked.
    Now(Error),
    /// An earlier call failed, and this call was not made.
    Earlier(Error),
}

/// The conversion of [`Broken`] to the error of a call. This is not `From`, because a second `From` for [`Error`] would
/// end the type inference of `?` in other crates.
trait FromBroken {
    fn from_broken(broken: Broken) -> Self;
}

impl FromBroken for CommitError {
    fn from_broken(broken: Broken) -> Self {
        match broken {
            Broken::Now(error) => Self::Unknown(error),
            Broken::Earlier(error) => Self::NotApplied(error),
        }
    }
}

impl FromBroken for Error {
    fn from_broken(broken: Broken) -> Self {
        match broken {
            Broken::Now(error) | Broken::Earlier(error) => error,
        }
    }
}
