//! The answer to a request, before and after its encoding as a line.

use std::fmt;

use kv_core::{Error, Result};
use serde::Serialize;
use serde_json::Value;

use super::budget::Outcome;
use crate::escape;

/// An answer of more bytes is encoded on a thread for blocking work, so that other sessions are not delayed.
pub(super) const BLOCKING_BYTES: usize = 256 << 10;

/// An answer that is not yet encoded.
pub(super) struct Answer {
    bytes: usize,
    encode: Box<dyn FnOnce(&Value) -> String + Send>,
}

impl Answer {
    /// Creates an answer with about `bytes` of keys and values. `result` converts it into its JSON form.
    pub(super) fn new<T: Serialize>(bytes: usize, result: impl FnOnce() -> T + Send + 'static) -> Self {
        Self { bytes, encode: Box::new(move |id| line(id, Outcome::Done { result: result() })) }
    }

    /// Creates the answer `null`.
    pub(super) fn null() -> Self {
        Self::new(0, || ())
    }

    fn failed(error: &Error) -> Self {
        let outcome = Outcome::<()>::of(Err(error.clone()), |()| ());
        Self { bytes: 0, encode: Box::new(move |id| line(id, outcome)) }
    }

    pub(super) fn of(result: Result<Self>) -> Self {
        result.unwrap_or_else(|error| Self::failed(&error))
    }

    /// The bytes of keys and values.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Encodes the line of the answer.
    pub(super) async fn encode(self, id: Value) -> String {
        let Self { bytes, encode } = self;
        blocking(bytes, move || encode(&id)).await.unwrap_or_default()
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

/// Runs work on `bytes` of data, on a thread for blocking work if it takes long. Returns `None` if the work panics or
/// the runtime ends.
pub(super) async fn blocking<T: Send + 'static>(bytes: usize, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    if bytes <= BLOCKING_BYTES {
        return Some(work());
    }
    tokio::task::spawn_blocking(work).await.ok()
}

fn line<T: Serialize>(id: &Value, outcome: Outcome<T>) -> String {
    // Cannot fail: all map keys are strings, and no number is out of range.
    escape::json(serde_json::to_string(&Response { id, outcome }).unwrap_or_default())
}

#[derive(Serialize)]
struct Response<'r, T> {
    id: &'r Value,
    #[serde(flatten)]
    outcome: Outcome<T>,
}
