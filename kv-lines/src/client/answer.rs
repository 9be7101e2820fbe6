//! Reading responses.

use kv_core::{Error, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::shape::Failure;

/// A response, or one element of a batch.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Answer<T> {
    Failed { error: Failure },
    Done { result: T },
}

impl<T> Answer<T> {
    pub(super) fn into_result(self) -> Result<T> {
        match self {
            Self::Failed { error } => Err(error.into_error()),
            Self::Done { result } => Ok(result),
        }
    }
}

/// A line of JSON from the server.
pub(super) fn read<T: DeserializeOwned>(line: &[u8]) -> Result<T> {
    serde_json::from_slice(line).map_err(|error| {
        // Where, but not what: the line may hold values.
        Error::corrupt(format!("what the server answered is not of the protocol, at column {}", error.column()))
    })
}
