//! The response to a request, before and after its encoding as a line.

use std::fmt;

use kv_core::{Error, Result};
use serde::Serialize;
use serde_json::Value;

use crate::escape;
use crate::line::MAX_VALUES_BYTES;
use crate::shape::Failure;

/// The maximum bytes of keys and values that are encoded or decoded on a runtime thread. More bytes are encoded and
/// decoded on a thread for blocking work, because other sessions must not wait for them.
const BLOCKING_BYTES: usize = 256 << 10;

/// A response that is not yet encoded.
pub(super) struct Response {
    bytes: usize,
    encode: Box<dyn FnOnce(&Value) -> String + Send>,
}

impl Response {
    /// Creates a response with about `bytes` bytes of keys and values. `result` converts the result into its JSON form.
    pub(super) fn new<T: Serialize>(bytes: usize, result: impl FnOnce() -> T + Send + 'static) -> Self {
        Self { bytes, encode: Box::new(move |id| line(id, Outcome::Done { result: result() })) }
    }

    /// Creates the response with the result `null`.
    pub(super) fn null() -> Self {
        Self::new(0, || ())
    }

    fn failed(error: &Error) -> Self {
        let outcome = Outcome::<()>::of(Err(error.clone()), |()| ());
        Self { bytes: 0, encode: Box::new(move |id| line(id, outcome)) }
    }

    /// Converts the error of a failed request into a response.
    pub(super) fn of(result: Result<Self>) -> Self {
        result.unwrap_or_else(|error| Self::failed(&error))
    }

    /// Returns the bytes of the keys and values.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Encodes the response as a line.
    pub(super) async fn encode(self, id: Value) -> String {
        let Self { bytes, encode } = self;
        blocking(bytes, move || encode(&id)).await.unwrap_or_default()
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

/// Runs work on `bytes` bytes of keys and values: on a thread for blocking work if there are more than
/// [`BLOCKING_BYTES`]. Returns `None` if the work panics or the runtime shuts down.
pub(super) async fn blocking<T: Send + 'static>(bytes: usize, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    if bytes <= BLOCKING_BYTES {
        return Some(work());
    }
    tokio::task::spawn_blocking(work).await.ok()
}

/// The outcome of a request, or of one element of a batch, as JSON.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Outcome<T> {
    Done { result: T },
    Failed { error: Failure },
}

impl<T> Outcome<T> {
    /// Converts the result of a request. `encode` converts its success into the JSON form.
    pub(super) fn of<S>(outcome: Result<S>, encode: impl FnOnce(S) -> T) -> Self {
        match outcome {
            Ok(outcome) => Self::Done { result: encode(outcome) },
            Err(error) => Self::Failed { error: Failure::from(&error) },
        }
    }

    /// Creates the outcome of an element that is not in the response, because the values of earlier elements used up
    /// the budget of the response.
    pub(super) fn over_budget() -> Self {
        let message =
            format!("the values of one response have at most {MAX_VALUES_BYTES} bytes: request the rest again");
        Self::Failed { error: Failure::from(&Error::capacity(message)) }
    }
}

fn line<T: Serialize>(id: &Value, outcome: Outcome<T>) -> String {
    // Serializing cannot fail, because all map keys are strings and no number is out of range.
    escape::json(serde_json::to_string(&ResponseLine { id, outcome }).unwrap_or_default())
}

#[derive(Serialize)]
struct ResponseLine<'r, T> {
    id: &'r Value,
    #[serde(flatten)]
    outcome: Outcome<T>,
}
