//! Requests to the worker, and the replies to writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kv_core::{Error, Key, Result, Version};
use tokio::sync::oneshot;

use crate::batch_builder::BatchBuilder;

/// A request to the worker.
pub(crate) enum Request {
    /// Evaluates a write, applies it together with others, makes it durable and acknowledges it.
    Write(Box<dyn QueuedWrite>),
    /// Flushes and syncs all acknowledged writes.
    Flush(oneshot::Sender<Result<()>>),
    /// Flushes, syncs and releases the files.
    Close(oneshot::Sender<Result<()>>),
}

/// A queued write. The trait hides the type of its answer.
pub(crate) trait QueuedWrite: Send {
    /// Approximate bytes that the write adds to a batch.
    fn bytes(&self) -> usize;

    /// Marks the write as started: from now on it may be applied.
    fn start(&self);

    /// Evaluates the write over the batch so far and keeps the answer.
    fn evaluate(&mut self, batch: &mut BatchBuilder<'_>);

    /// Replies with the kept answer.
    fn acknowledge(self: Box<Self>);

    /// Replies with an error instead of the kept answer.
    fn fail(self: Box<Self>, failure: &WriteFailure);
}

/// The reason why a write has no answer of its own.
#[derive(Debug)]
pub(crate) enum WriteFailure {
    /// The write was not applied. Holds the error's constructor and text, as each caller gets an error of its own.
    NotStarted(fn(String) -> Error, String),
    /// The write may have been applied.
    Unknown(String),
}

/// The properties of a write that are known before it is evaluated.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WriteInfo<'k> {
    /// The key, if the write concerns only one.
    pub(crate) key: Option<&'k Key>,
    pub(crate) version: Option<Version>,
    /// Approximate bytes that the write adds to a batch.
    pub(crate) bytes: usize,
}

impl<'k> WriteInfo<'k> {
    pub(crate) fn key(key: &'k Key, version: Option<Version>, value_bytes: usize) -> Self {
        Self { key: Some(key), version, bytes: key.as_str().len() + value_bytes }
    }

    /// A write that scans the tree.
    pub(crate) fn scan(bytes: usize) -> Self {
        Self { key: None, version: None, bytes }
    }
}

/// The caller's end of a queued write.
pub(crate) struct WriteReply<T> {
    pub(crate) answer: oneshot::Receiver<Result<T>>,
    is_started: Arc<AtomicBool>,
    version: Option<Version>,
}

impl<T> WriteReply<T> {
    /// The error of a write that gets no answer: `Indeterminate` once it was started, `not_started` before.
    pub(crate) fn unanswered(&self, not_started: Error) -> Error {
        if self.is_started.load(Ordering::SeqCst) {
            Error::indeterminate(self.version, not_started.message().to_owned())
        } else {
            not_started
        }
    }
}

struct Write<T, E> {
    evaluate: Option<E>,
    answer: Option<Result<T>>,
    reply: oneshot::Sender<Result<T>>,
    is_started: Arc<AtomicBool>,
    version: Option<Version>,
    bytes: usize,
}

/// Makes a queued write from its evaluation.
pub(crate) fn queued<T, E>(version: Option<Version>, bytes: usize, evaluate: E) -> (Box<dyn QueuedWrite>, WriteReply<T>)
where
    T: Send + 'static,
    E: FnOnce(&mut BatchBuilder<'_>) -> Result<T> + Send + 'static,
{
    let (reply, answer) = oneshot::channel();
    let is_started = Arc::new(AtomicBool::new(false));
    let receiver = WriteReply { answer, is_started: Arc::clone(&is_started), version };
    let evaluate = Some(evaluate);
    (Box::new(Write { evaluate, answer: None, reply, is_started, version, bytes }), receiver)
}

impl<T, E> QueuedWrite for Write<T, E>
where
    T: Send,
    E: FnOnce(&mut BatchBuilder<'_>) -> Result<T> + Send,
{
    fn bytes(&self) -> usize {
        self.bytes
    }

    fn start(&self) {
        // Sequentially consistent with the store's health, for worker and caller alike: see `Worker::write`.
        self.is_started.store(true, Ordering::SeqCst);
    }

    fn evaluate(&mut self, batch: &mut BatchBuilder<'_>) {
        self.answer = self.evaluate.take().map(|evaluate| evaluate(batch));
    }

    fn acknowledge(self: Box<Self>) {
        if let Some(answer) = self.answer {
            // Fails if the caller has dropped its future.
            let _ = self.reply.send(answer);
        }
    }

    fn fail(self: Box<Self>, failure: &WriteFailure) {
        let error = match failure {
            WriteFailure::NotStarted(constructor, text) => constructor(text.clone()),
            WriteFailure::Unknown(text) => match self.answer {
                // The evaluation failed, so this write put nothing into the batch.
                Some(Err(error)) => error,
                _ => Error::indeterminate(self.version, text.clone()),
            },
        };
        let _ = self.reply.send(Err(error));
    }
}

impl WriteFailure {
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::NotStarted(_, text) | Self::Unknown(text) => text,
        }
    }
}

#[cfg(test)]
mod tests {
    use kv_core::ErrorKind;

    use super::*;

    #[test]
    fn an_unanswered_write_is_indeterminate_once_it_was_started() {
        let version = Version::random();
        let (write, reply) = queued(Some(version), 0, |_: &mut BatchBuilder<'_>| Ok(()));
        assert_eq!(reply.unanswered(Error::unavailable("gone")).kind(), ErrorKind::Unavailable);
        write.start();
        let error = reply.unanswered(Error::unavailable("gone"));
        assert_eq!(error.attempted_version(), Some(version));
        assert!(error.maybe_applied());
    }
}
