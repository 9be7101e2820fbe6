//! The sending end of the worker's queue.

use std::sync::Arc;

use kv_core::{Error, Result};
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::oneshot;

use crate::batch_builder::BatchBuilder;
use crate::request::{PendingResponse, Request, WriteInfo, queued};
use crate::state::State;

/// Sends requests to the worker. All clones of a store share one `Queue`. When the queue is dropped, the worker ends.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) state: Arc<State>,
    pub(crate) requests: Sender<Request>,
}

/// The ways in which a write can be executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    /// The write is executed inline if possible, otherwise by the worker. See [`State::write_inline`].
    Any,
    /// The worker executes the write.
    Queued,
}

impl Route {
    /// Returns the route of a write that follows other writes of the same call. If the previous write was queued, this
    /// write is queued, too, so that the writes keep their order.
    pub(crate) fn after<T>(sent: &[Result<Sent<T>>]) -> Self {
        let last = sent.iter().rev().find_map(|sent| sent.as_ref().ok());
        if matches!(last, Some(Sent::Queued(_))) { Self::Queued } else { Self::Any }
    }
}

/// The state of a write after [`Queue::send`].
pub(crate) enum Sent<T> {
    /// The write was evaluated inline, with this response.
    Done(Result<T>),
    /// The worker will send the response.
    Queued(PendingResponse<T>),
}

impl Queue {
    /// Sends a write and waits for its response.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        info: WriteInfo<'_>,
        evaluate: impl FnOnce(&mut BatchBuilder<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let sent = self.send(info, Route::Any, evaluate).await?;
        self.response(sent).await
    }

    /// Evaluates a write inline if the route and write-behind allow it. Otherwise queues the write for the worker.
    pub(crate) async fn send<T: Send + 'static>(
        &self,
        info: WriteInfo<'_>,
        route: Route,
        evaluate: impl FnOnce(&mut BatchBuilder<'_>) -> Result<T> + Send + 'static,
    ) -> Result<Sent<T>> {
        self.state.health.check_write()?;
        let evaluate = match route {
            Route::Any => match self.state.write_inline(&info, evaluate) {
                Ok(response) => return Ok(Sent::Done(response)),
                Err(evaluate) => evaluate,
            },
            Route::Queued => evaluate,
        };
        let (write, pending) = queued(&info, evaluate);
        self.enqueue(Request::Write(write)).await?;
        Ok(Sent::Queued(pending))
    }

    /// Waits for the response to a write.
    pub(crate) async fn response<T>(&self, sent: Sent<T>) -> Result<T> {
        let mut pending = match sent {
            Sent::Done(response) => return response,
            Sent::Queued(pending) => pending,
        };
        let response = tokio::select! {
            biased;
            response = &mut pending.response => response.ok(),
            () = self.state.health.poisoned() => None,
        };
        response.unwrap_or_else(|| Err(pending.unanswered(self.no_response())))
    }

    /// Waits for the responses to several writes. Returns them in the order of the writes.
    pub(crate) async fn responses<T: Send>(&self, sent: Vec<Result<Sent<T>>>) -> Vec<Result<T>> {
        let mut responses = Vec::with_capacity(sent.len());
        for sent in sent {
            responses.push(match sent {
                Ok(sent) => self.response(sent).await,
                Err(error) => Err(error),
            });
        }
        responses
    }

    pub(crate) async fn flush(&self) -> Result<()> {
        self.state.health.check_write()?;
        let (responder, response) = oneshot::channel();
        self.enqueue(Request::Flush(responder)).await?;
        tokio::select! {
            biased;
            response = response => response.unwrap_or_else(|_| Err(self.no_response())),
            () = self.state.health.poisoned() => Err(self.no_response()),
        }
    }

    pub(crate) async fn close(&self) -> Result<()> {
        if self.state.health.is_closed() {
            return Ok(());
        }
        let (responder, response) = oneshot::channel();
        // The worker of a poisoned store closes the files, too, unless it hangs.
        let closed = async {
            match self.requests.send(Request::Close(responder)).await {
                Ok(()) => response.await.unwrap_or(Ok(())),
                Err(_) => Ok(()),
            }
        };
        tokio::select! {
            biased;
            closed = closed => closed,
            () = self.state.health.hung() => {
                self.state.close();
                Err(Error::unavailable("sled hangs: the files stay locked until this process ends"))
            }
        }
    }

    /// Queues a request for the worker, and waits while the queue is full.
    async fn enqueue(&self, request: Request) -> Result<()> {
        // Try without waiting first: usually the queue has space, and watching the store's health costs time.
        let request = match self.requests.try_send(request) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Full(request)) => request,
            Err(TrySendError::Closed(_)) => return Err(self.no_response()),
        };
        tokio::select! {
            biased;
            sent = self.requests.send(request) => sent.map_err(|_| self.no_response()),
            () = self.state.health.poisoned() => Err(self.no_response()),
        }
    }

    /// Returns the error of a request that gets no response from the worker.
    fn no_response(&self) -> Error {
        match self.state.health.check_write() {
            Err(error) => error,
            Ok(()) => Error::unavailable("the worker's thread has ended"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_is_queued_behind_a_queued_write_of_the_same_call() {
        let (_write, pending) = queued(&WriteInfo::scan(0), |_: &mut BatchBuilder<'_>| Ok(()));
        let mut sent = vec![Ok(Sent::Done(Ok(())))];
        assert_eq!(Route::after(&sent), Route::Any);
        sent.push(Ok(Sent::Queued(pending)));
        sent.push(Err(Error::invalid("no options")));
        assert_eq!(Route::after(&sent), Route::Queued);
    }
}
