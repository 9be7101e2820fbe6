//! One write on its way to the worker and back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kv_core::{Error, Key, Result, Version};
use tokio::sync::oneshot;

use crate::draft::Draft;

/// What the worker is asked to do.
pub(crate) enum Message {
    /// Judge a write, apply it with others, make it as safe as declared, acknowledge it.
    Write(Box<dyn Job>),
    /// Make everything that was acknowledged as safe as the backend can.
    Flush(oneshot::Sender<Result<()>>),
    /// Flush and give the files back.
    Close(oneshot::Sender<Result<()>>),
}

/// A write, whatever it answers.
pub(crate) trait Job: Send {
    /// How much it adds to a batch, in bytes.
    fn bytes(&self) -> usize;

    /// Says that from now on it may be applied.
    fn take(&self);

    /// Judges it over the batch so far and remembers the answer.
    fn judge(&mut self, draft: &mut Draft<'_>);

    /// Gives the remembered answer.
    fn acknowledge(self: Box<Self>);

    /// Gives an error instead: `what` was not begun, or came to an end that nobody knows.
    fn fail(self: Box<Self>, failure: &Failure);
}

/// Why a write has no answer of its own.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Nothing happened.
    NotBegun(fn(String) -> Error, String),
    /// It may have been applied.
    Unknown(String),
}

/// What is known of a write before it is judged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct About<'k> {
    /// The one key that it looks at, where it is one.
    pub(crate) key: Option<&'k Key>,
    pub(crate) version: Option<Version>,
    /// How much it adds to a batch.
    pub(crate) bytes: usize,
}

impl<'k> About<'k> {
    pub(crate) fn key(key: &'k Key, version: Option<Version>, value_bytes: usize) -> Self {
        Self { key: Some(key), version, bytes: key.as_str().len() + value_bytes }
    }

    /// One that walks over the tree.
    pub(crate) fn long(bytes: usize) -> Self {
        Self { key: None, version: None, bytes }
    }
}

/// Where a write stands among those of the same call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Any,
    /// Behind one that the worker judges.
    Behind,
}

impl Order {
    pub(crate) fn behind<T>(sent: &[Result<Sent<T>>]) -> Self {
        let last = sent.iter().rev().find_map(|sent| sent.as_ref().ok());
        if matches!(last, Some(Sent::Waiting(_))) { Self::Behind } else { Self::Any }
    }
}

/// A write that was given away.
pub(crate) enum Sent<T> {
    Answered(Result<T>),
    Waiting(Waiting<T>),
}

/// The caller's end.
pub(crate) struct Waiting<T> {
    pub(crate) answer: oneshot::Receiver<Result<T>>,
    was_taken: Arc<AtomicBool>,
    version: Option<Version>,
}

impl<T> Waiting<T> {
    /// The error of a write whose answer never came.
    pub(crate) fn lost(&self, not_begun: Error) -> Error {
        if self.was_taken.load(Ordering::SeqCst) {
            Error::indeterminate(self.version, not_begun.message().to_owned())
        } else {
            not_begun
        }
    }
}

struct Request<T, J> {
    judge: Option<J>,
    answer: Option<Result<T>>,
    reply: oneshot::Sender<Result<T>>,
    was_taken: Arc<AtomicBool>,
    version: Option<Version>,
    bytes: usize,
}

/// Makes a write out of what judges it.
pub(crate) fn request<T, J>(version: Option<Version>, bytes: usize, judge: J) -> (Box<dyn Job>, Waiting<T>)
where
    T: Send + 'static,
    J: FnOnce(&mut Draft<'_>) -> Result<T> + Send + 'static,
{
    let (reply, answer) = oneshot::channel();
    let was_taken = Arc::new(AtomicBool::new(false));
    let waiting = Waiting { answer, was_taken: Arc::clone(&was_taken), version };
    let judge = Some(judge);
    (Box::new(Request { judge, answer: None, reply, was_taken, version, bytes }), waiting)
}

impl<T, J> Job for Request<T, J>
where
    T: Send,
    J: FnOnce(&mut Draft<'_>) -> Result<T> + Send,
{
    fn bytes(&self) -> usize {
        self.bytes
    }

    fn take(&self) {
        // In one order with the state of the store, on both sides: see `Worker::write`.
        self.was_taken.store(true, Ordering::SeqCst);
    }

    fn judge(&mut self, draft: &mut Draft<'_>) {
        self.answer = self.judge.take().map(|judge| judge(draft));
    }

    fn acknowledge(self: Box<Self>) {
        if let Some(answer) = self.answer {
            // A caller that went away does not want to know.
            let _ = self.reply.send(answer);
        }
    }

    fn fail(self: Box<Self>, failure: &Failure) {
        let error = match failure {
            Failure::NotBegun(kind, text) => kind(text.clone()),
            Failure::Unknown(text) => match self.answer {
                // Its own error came first, and nothing of it was applied.
                Some(Err(error)) => error,
                _ => Error::indeterminate(self.version, text.clone()),
            },
        };
        let _ = self.reply.send(Err(error));
    }
}

impl Failure {
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::NotBegun(_, text) | Self::Unknown(text) => text,
        }
    }
}

#[cfg(test)]
mod tests {
    use kv_core::ErrorKind;

    use super::*;

    #[test]
    fn a_write_that_was_taken_may_have_happened_and_names_its_version() {
        let version = Version::random();
        let (job, waiting) = request(Some(version), 0, |_: &mut Draft<'_>| Ok(()));
        assert_eq!(waiting.lost(Error::unavailable("gone")).kind(), ErrorKind::Unavailable);
        job.take();
        let error = waiting.lost(Error::unavailable("gone"));
        assert_eq!(error.attempted_version(), Some(version));
        assert!(error.maybe_applied());
    }

    #[test]
    fn a_write_stays_behind_one_of_its_call_that_the_worker_has() {
        let (_job, waiting) = request(None, 0, |_: &mut Draft<'_>| Ok(()));
        let mut sent = vec![Ok(Sent::Answered(Ok(())))];
        assert_eq!(Order::behind(&sent), Order::Any);
        sent.push(Ok(Sent::Waiting(waiting)));
        sent.push(Err(Error::invalid("no options")));
        assert_eq!(Order::behind(&sent), Order::Behind);
    }
}
