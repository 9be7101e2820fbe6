//! The response to a request, before and after its encoding as a line.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use kv_core::{Error, Result};
use serde::Serialize;
use serde_json::Value;

use crate::escape;
use crate::line::MAX_VALUES_BYTES;
use crate::shape::Failure;

/// The maximum number of bytes of keys and values that are encoded or decoded on a runtime thread. More bytes are
/// encoded and decoded on a thread for blocking work, because other sessions must not wait for this work.
const BLOCKING_BYTES: usize = 256 << 10;

/// A response that is not yet encoded.
pub(super) struct Response {
    bytes: usize,
    encode: Encode,
}

/// Encodes the line of a response with this id.
type Encode = Box<dyn FnOnce(&Value) -> serde_json::Result<String> + Send>;

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

    /// Returns the number of bytes of the keys and values.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Encodes the response as a line. If the encoding fails, the line has the error `defect`.
    pub(super) async fn encode(self, id: Value) -> String {
        let Self { bytes, encode } = self;
        let own_id = id.clone();
        match blocking(bytes, move || encode(&own_id)).await {
            Ok(Ok(line)) => line,
            Ok(Err(_)) | Err(_) => undeliverable(&id),
        }
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

/// Runs work on `bytes` bytes of keys and values. If `bytes` is more than [`BLOCKING_BYTES`], the work runs on a thread
/// for blocking work.
///
/// # Errors
/// `Defect` if the work panics, and `Unavailable` if the runtime shuts down.
pub(super) async fn blocking<T: Send + 'static>(bytes: usize, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let work = move || catch_unwind(AssertUnwindSafe(work)).map_err(|_panic| Error::defect("the server panicked"));
    if bytes <= BLOCKING_BYTES {
        return work();
    }
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(Error::unavailable("the server is shutting down")))
}

/// The outcome of a request, or of one element of a batch, as JSON.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Outcome<T> {
    Done { result: T },
    Failed { error: Failure },
}

impl<T> Outcome<T> {
    /// Converts the result of a request. `encode` converts a successful result into the JSON form.
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

fn line<T: Serialize>(id: &Value, outcome: Outcome<T>) -> serde_json::Result<String> {
    serde_json::to_string(&ResponseLine { id, outcome }).map(escape::json)
}

/// Returns the error line for a response that cannot be encoded. The request may have been executed.
fn undeliverable(id: &Value) -> String {
    const KIND: &str = "defect";
    const MESSAGE: &str = "the server cannot encode the response; a write may have been applied";
    // Displaying a JSON value cannot fail.
    let error = serde_json::json!({"kind": KIND, "message": format!("{KIND}: {MESSAGE}")});
    escape::json(format!("{{\"id\":{id},\"error\":{error}}}"))
}

#[derive(Serialize)]
struct ResponseLine<'r, T> {
    id: &'r Value,
    #[serde(flatten)]
    outcome: Outcome<T>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A result that cannot be encoded.
    struct Unencodable;

    impl Serialize for Unencodable {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("no JSON form"))
        }
    }

    #[tokio::test]
    async fn a_response_that_cannot_be_encoded_is_an_error_line() {
        for bytes in [0, BLOCKING_BYTES + 1] {
            let panics = Response::new(bytes, || -> u8 { panic!("a defect of the encoding") });
            for response in [panics, Response::new(bytes, || Unencodable)] {
                let line = response.encode(serde_json::json!({"a": "\u{202e}"})).await;
                assert!(!line.contains('\u{202e}'), "{line:?}");
                let read: Value = serde_json::from_str(&line).unwrap();
                assert_eq!(read["id"], serde_json::json!({"a": "\u{202e}"}));
                let error: Failure = serde_json::from_value(read["error"].clone()).unwrap();
                assert_eq!(error.into_error().kind(), kv_core::ErrorKind::Defect);
            }
        }
    }
}
