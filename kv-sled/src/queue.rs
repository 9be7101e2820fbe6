//! The callers' end of the worker's queue.

use std::sync::Arc;

use kv_core::{Error, Result};
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::oneshot;

use crate::batch_builder::BatchBuilder;
use crate::request::{Request, WriteInfo, WriteReply, queued};
use crate::state::State;

/// Sends requests to the worker. The worker ends when the last clone of the store's handle drops this.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) state: Arc<State>,
    pub(crate) requests: Sender<Request>,
}

/// The ways that a write may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    /// Evaluated inline if the durability allows it, queued otherwise.
    Any,
    /// Queued.
    Queued,
}

impl Route {
    /// The route of a write that follows others of the same call. It is queued behind a queued one, to keep their
    /// order.
    pub(crate) fn after<T>(sent: &[Result<Sent<T>>]) -> Self {
        let last = sent.iter().rev().find_map(|sent| sent.as_ref().ok());
        if matches!(last, Some(Sent::Queued(_))) { Self::Queued } else { Self::Any }
    }
}

/// A write that was sent.
pub(crate) enum Sent<T> {
    Answered(Result<T>),
    Queued(WriteReply<T>),
}

impl Queue {
    /// Sends a write and waits for its answer.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        info: WriteInfo<'_>,
        evaluate: impl FnOnce(&mut BatchBuilder<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let sent = self.send(info, Route::Any, evaluate).await?;
        self.answer(sent).await
    }

    /// Evaluates a write inline if write-behind allows it, and queues it for the worker otherwise.
    pub(crate) async fn send<T: Send + 'static>(
        &self,
        info: WriteInfo<'_>,
        route: Route,
        evaluate: impl FnOnce(&mut BatchBuilder<'_>) -> Result<T> + Send + 'static,
    ) -> Result<Sent<T>> {
        self.state.health.check_write()?;
        let evaluate = match route {
            Route::Any => match self.state.write_inline(&info, evaluate) {
                Ok(answer) => return Ok(Sent::Answered(answer)),
                Err(evaluate) => evaluate,
            },
            Route::Queued => evaluate,
        };
        let (write, reply) = queued(info.version, info.bytes, evaluate);
        self.post(Request::Write(write)).await?;
        Ok(Sent::Queued(reply))
    }

    /// Waits for the answer of a write.
    pub(crate) async fn answer<T>(&self, sent: Sent<T>) -> Result<T> {
        let mut reply = match sent {
            Sent::Answered(answer) => return answer,
            Sent::Queued(reply) => reply,
        };
        let answer = tokio::select! {
            biased;
            answer = &mut reply.answer => answer.ok(),
            () = self.state.health.poisoned() => None,
        };
        answer.unwrap_or_else(|| Err(reply.unanswered(self.no_answer())))
    }

    /// Waits for the answers of several writes, in their order.
    pub(crate) async fn answers<T: Send>(&self, sent: Vec<Result<Sent<T>>>) -> Vec<Result<T>> {
        let mut answers = Vec::with_capacity(sent.len());
        for sent in sent {
            answers.push(match sent {
                Ok(sent) => self.answer(sent).await,
                Err(error) => Err(error),
            });
        }
        answers
    }

    pub(crate) async fn flush(&self) -> Result<()> {
        self.state.health.check_write()?;
        let (reply, answer) = oneshot::channel();
        self.post(Request::Flush(reply)).await?;
        tokio::select! {
            biased;
            answer = answer => answer.unwrap_or_else(|_| Err(self.no_answer())),
            () = self.state.health.poisoned() => Err(self.no_answer()),
        }
    }

    pub(crate) async fn close(&self) -> Result<()> {
        if self.state.health.is_closed() {
            return Ok(());
        }
        let (reply, answer) = oneshot::channel();
        // A poisoned store releases its files too, as long as its worker does not hang.
        let closed = async {
            match self.requests.send(Request::Close(reply)).await {
                Ok(()) => answer.await.unwrap_or(Ok(())),
                Err(_) => Ok(()),
            }
        };
        tokio::select! {
            biased;
            closed = closed => closed,
            () = self.state.health.hung() => {
                self.state.health.close();
                Err(Error::unavailable("sled hangs: the files stay locked until this process ends"))
            }
        }
    }

    async fn post(&self, request: Request) -> Result<()> {
        // The common case: there is room, and no need to watch the store's health.
        let request = match self.requests.try_send(request) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Full(request)) => request,
            Err(TrySendError::Closed(_)) => return Err(self.no_answer()),
        };
        tokio::select! {
            biased;
            sent = self.requests.send(request) => sent.map_err(|_| self.no_answer()),
            () = self.state.health.poisoned() => Err(self.no_answer()),
        }
    }

    /// The error if the worker does not answer.
    fn no_answer(&self) -> Error {
        match self.state.health.check_write() {
            Err(error) => error,
            Ok(()) => Error::unavailable("the store's thread has ended"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_is_queued_behind_a_queued_write_of_the_same_call() {
        let (_write, reply) = queued(None, 0, |_: &mut BatchBuilder<'_>| Ok(()));
        let mut sent = vec![Ok(Sent::Answered(Ok(())))];
        assert_eq!(Route::after(&sent), Route::Any);
        sent.push(Ok(Sent::Queued(reply)));
        sent.push(Err(Error::invalid("no options")));
        assert_eq!(Route::after(&sent), Route::Queued);
    }
}
