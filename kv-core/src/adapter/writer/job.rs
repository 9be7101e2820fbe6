//! Queued writes and their responses.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::{Either, select};
use tokio::sync::oneshot;

use super::super::commit_error::CommitError;
use super::super::records::Records;
use super::health::Health;
use crate::error::{Error, Result};
use crate::version::Version;

/// A queued write. This is a trait, because the types of the responses differ.
pub(super) trait Job: Send {
    /// The approximate number of bytes that the write adds to a transaction.
    fn bytes(&self) -> usize;

    /// True if the caller has dropped its future.
    fn is_abandoned(&self) -> bool;

    /// Marks the write as started: it may be applied from now on.
    fn start(&self);

    /// Evaluates the write and keeps the response. A write may be evaluated again in another transaction.
    fn evaluate(&mut self, records: &mut dyn Records);

    /// True if the kept response is an error.
    fn has_failed(&self) -> bool;

    /// Sends the kept response.
    fn acknowledge(self: Box<Self>);

    /// Sends an error. A kept error comes first, because the write changed nothing.
    fn fail(self: Box<Self>, failure: &CommitError);
}

/// The response to a write that was sent to a [`Writer`](super::Writer). Dropping it does not cancel a write that has
/// begun.
#[derive(Debug)]
pub struct Pending<T> {
    health: Arc<Health>,
    response: oneshot::Receiver<Result<T>>,
    is_started: Arc<AtomicBool>,
    version: Option<Version>,
}

impl<T> Pending<T> {
    /// Waits for the response.
    ///
    /// # Errors
    /// The error of the write; `Indeterminate` if the transaction of the write may have been applied; `Unavailable` if
    /// the database hangs and the write has not begun; `Defect` if the database panicked; `Closed`.
    pub async fn response(self) -> Result<T> {
        let Self { health, mut response, is_started, version } = self;
        let error = match select(&mut response, pin!(health.hung())).await {
            Either::Left((Ok(response), _)) => return response,
            Either::Left((Err(_), _)) => Error::closed(),
            Either::Right(_) => Health::error(),
        };
        if is_started.load(Ordering::SeqCst) {
            return Err(Error::indeterminate(version, error.message().to_owned()));
        }
        Err(error)
    }
}

struct Write<T, F> {
    evaluate: F,
    response: Option<Result<T>>,
    responder: oneshot::Sender<Result<T>>,
    is_started: Arc<AtomicBool>,
    version: Option<Version>,
    bytes: usize,
}

/// Returns a write that calls `evaluate`, and its pending response.
pub(super) fn queued<T, F>(
    health: &Arc<Health>,
    version: Option<Version>,
    bytes: usize,
    evaluate: F,
) -> (Box<dyn Job>, Pending<T>)
where
    T: Send + 'static,
    F: FnMut(&mut dyn Records) -> Result<T> + Send + 'static,
{
    let (responder, response) = oneshot::channel();
    let is_started = Arc::new(AtomicBool::new(false));
    let pending = Pending { health: Arc::clone(health), response, is_started: Arc::clone(&is_started), version };
    (Box::new(Write { evaluate, response: None, responder, is_started, version, bytes }), pending)
}

impl<T, F> Job for Write<T, F>
where
    T: Send,
    F: FnMut(&mut dyn Records) -> Result<T> + Send,
{
    fn bytes(&self) -> usize {
        self.bytes
    }

    fn is_abandoned(&self) -> bool {
        self.responder.is_closed()
    }

    fn start(&self) {
        self.is_started.store(true, Ordering::SeqCst);
    }

    fn evaluate(&mut self, records: &mut dyn Records) {
        self.response = Some((self.evaluate)(records));
    }

    fn has_failed(&self) -> bool {
        matches!(self.response, Some(Err(_)))
    }

    fn acknowledge(self: Box<Self>) {
        if let Some(response) = self.response {
            // Sending fails if the caller has dropped its future.
            let _ = self.responder.send(response);
        }
    }

    fn fail(self: Box<Self>, failure: &CommitError) {
        let error = match (self.response, failure) {
            (Some(Err(error)), _) => error,
            (_, CommitError::NotApplied(error)) => error.clone(),
            (_, CommitError::Unknown(error)) => {
                Error::indeterminate(self.version, error.message().to_owned()).with_source(error.clone())
            }
        };
        let _ = self.responder.send(Err(error));
    }
}
