//! Requests to the worker, and the responses to writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kv_core::{Error, Key, Result, Version};
use tokio::sync::oneshot;

use crate::batch_builder::BatchBuilder;

/// A request to the worker.
pub(crate) enum Request {
    /// Evaluates a write, applies it in a batch with other writes, makes the batch durable and acknowledges the write.
    Write(Box<dyn QueuedWrite>),
    /// Flushes and syncs all acknowledged writes.
    Flush(oneshot::Sender<Result<()>>),
    /// Flushes, syncs and releases the files.
    Close(oneshot::Sender<Result<()>>),
}

/// A queued write. This is a trait, because the types of the responses differ.
pub(crate) trait QueuedWrite: Send {
    /// The approximate number of bytes that the write adds to a batch.
    fn bytes(&self) -> usize;

    /// True if the write only removes entries, so that it may use a part of the free-space reserve.
    fn is_removal(&self) -> bool;

    /// Marks the write as started: it may be applied from now on.
    fn start(&self);

    /// Keeps an error as the response, instead of evaluating the write.
    fn refuse(&mut self, error: Error);

    /// Evaluates the write after the changes of the batch, and keeps the response.
    fn evaluate(&mut self, batch: &mut BatchBuilder<'_>);

    /// Sends the kept response.
    fn acknowledge(self: Box<Self>);

    /// Sends an error instead of the kept response.
    fn fail(self: Box<Self>, failure: &WriteFailure);
}

/// The failure of a batch. All writes of the batch get this failure instead of their responses.
#[derive(Debug)]
pub(crate) enum WriteFailure {
    /// The batch was not applied. The fields are the constructor and the text of the error, because each caller needs
    /// its own error.
    NotStarted(fn(String) -> Error, String),
    /// The batch may have been applied.
    Unknown(String),
}

/// The properties of a write that are known before it is evaluated.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WriteInfo<'k> {
    /// The key, if the write concerns a single key.
    pub(crate) key: Option<&'k Key>,
    pub(crate) version: Option<Version>,
    /// The approximate number of bytes that the write adds to a batch.
    pub(crate) bytes: usize,
    /// True if the write only removes entries.
    pub(crate) is_removal: bool,
}

impl<'k> WriteInfo<'k> {
    /// Returns the properties of a write of a single key.
    pub(crate) fn key(key: &'k Key, version: Option<Version>, value_bytes: usize) -> Self {
        Self { key: Some(key), version, bytes: key.as_str().len() + value_bytes, is_removal: false }
    }

    /// Returns the properties of a delete of a single key.
    pub(crate) fn delete(key: &'k Key) -> Self {
        Self { is_removal: true, ..Self::key(key, None, 0) }
    }

    /// Returns the properties of a write that scans the tree and removes entries, with about `bytes` bytes in a batch.
    pub(crate) fn scan(bytes: usize) -> Self {
        Self { key: None, version: None, bytes, is_removal: true }
    }
}

/// The response to a queued write. The caller waits for this response.
pub(crate) struct PendingResponse<T> {
    pub(crate) response: oneshot::Receiver<Result<T>>,
    is_started: Arc<AtomicBool>,
    version: Option<Version>,
}

impl<T> PendingResponse<T> {
    /// Returns the error of a write that gets no response: `Indeterminate` if the worker has started the write,
    /// otherwise `not_started`.
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
    response: Option<Result<T>>,
    responder: oneshot::Sender<Result<T>>,
    is_started: Arc<AtomicBool>,
    version: Option<Version>,
    bytes: usize,
    is_removal: bool,
}

/// Returns a queued write that calls `evaluate`, and its pending response.
pub(crate) fn queued<T, E>(info: &WriteInfo<'_>, evaluate: E) -> (Box<dyn QueuedWrite>, PendingResponse<T>)
where
    T: Send + 'static,
    E: FnOnce(&mut BatchBuilder<'_>) -> Result<T> + Send + 'static,
{
    let WriteInfo { key: _, version, bytes, is_removal } = *info;
    let (responder, response) = oneshot::channel();
    let is_started = Arc::new(AtomicBool::new(false));
    let pending = PendingResponse { response, is_started: Arc::clone(&is_started), version };
    let evaluate = Some(evaluate);
    (Box::new(Write { evaluate, response: None, responder, is_started, version, bytes, is_removal }), pending)
}

impl<T, E> QueuedWrite for Write<T, E>
where
    T: Send,
    E: FnOnce(&mut BatchBuilder<'_>) -> Result<T> + Send,
{
    fn bytes(&self) -> usize {
        self.bytes
    }

    fn is_removal(&self) -> bool {
        self.is_removal
    }

    fn refuse(&mut self, error: Error) {
        self.evaluate = None;
        self.response = Some(Err(error));
    }

    fn start(&self) {
        // `SeqCst`, because the worker and a waiting caller must see this flag and the store's health in one order: see
        // `Worker::write`.
        self.is_started.store(true, Ordering::SeqCst);
    }

    fn evaluate(&mut self, batch: &mut BatchBuilder<'_>) {
        self.response = self.evaluate.take().map(|evaluate| evaluate(batch));
    }

    fn acknowledge(self: Box<Self>) {
        if let Some(response) = self.response {
            // Sending fails if the caller has dropped its future.
            let _ = self.responder.send(response);
        }
    }

    fn fail(self: Box<Self>, failure: &WriteFailure) {
        let error = match failure {
            WriteFailure::NotStarted(..) => failure.to_error(),
            WriteFailure::Unknown(text) => match self.response {
                // The evaluation of this write failed, so it added nothing to the batch.
                Some(Err(error)) => error,
                _ => Error::indeterminate(self.version, text.clone()),
            },
        };
        let _ = self.responder.send(Err(error));
    }
}

impl WriteFailure {
    /// Returns the error of a write that was not started.
    pub(crate) fn to_error(&self) -> Error {
        match self {
            Self::NotStarted(constructor, text) => constructor(text.clone()),
            Self::Unknown(text) => Error::indeterminate(None, text.clone()),
        }
    }

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
    fn an_unanswered_write_is_indeterminate_after_it_was_started() {
        let version = Version::random();
        let info = WriteInfo { version: Some(version), ..WriteInfo::scan(0) };
        let (write, pending) = queued(&info, |_: &mut BatchBuilder<'_>| Ok(()));
        assert_eq!(pending.unanswered(Error::unavailable("gone")).kind(), ErrorKind::Unavailable);
        write.start();
        let error = pending.unanswered(Error::unavailable("gone"));
        assert_eq!(error.attempted_version(), Some(version));
        assert!(error.maybe_applied());
    }
}
