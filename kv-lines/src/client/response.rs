//! Decodes responses.

use std::fmt;

use kv_core::{Error, Result};
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

use crate::line::MAX_VALUES_BYTES;
use crate::shape::Failure;

/// The maximum number of bytes of a response without values. In a response with values, this is the maximum number of
/// bytes of its other parts.
pub(super) const OVERHEAD_BYTES: usize = 64 << 10;
/// The maximum number of bytes of any response. A server puts at most [`MAX_VALUES_BYTES`] bytes of values, or one
/// larger value, into a response. JSON text takes up to six bytes for each byte of a value. Keys, versions and
/// deadlines are added.
pub(super) const MAX_BYTES: usize = 256 << 20;
// A value that a client stored has less than 2 * `MAX_VALUES_BYTES` bytes, because this is the maximum length of a
// request line. At six bytes of JSON for each byte, such a value takes at most three quarters of `MAX_BYTES`. A quarter
// remains for the other parts.
const _: () = assert!(6 * 2 * MAX_VALUES_BYTES <= MAX_BYTES / 4 * 3);

/// Returns the maximum number of bytes of a response with `value_bytes` bytes of values.
pub(super) fn max_bytes(value_bytes: usize) -> usize {
    value_bytes.saturating_mul(6).saturating_add(OVERHEAD_BYTES).min(MAX_BYTES)
}

/// A response, or one element of the response to a batch.
///
/// The visitor decodes each field as it arrives. A derived untagged enum would first buffer the fields as a tree. Such
/// a tree takes many times the memory of the line.
#[derive(Debug)]
pub(super) enum Response<T> {
    Failed(Failure),
    Done(T),
}

impl<T> Response<T> {
    pub(super) fn into_result(self) -> Result<T> {
        match self {
            Self::Failed(error) => Err(error.into_error()),
            Self::Done(result) => Ok(result),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Response<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ResponseVisitor(std::marker::PhantomData))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Field {
    Result,
    Error,
    #[serde(other)]
    Other,
}

struct ResponseVisitor<T>(std::marker::PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ResponseVisitor<T> {
    type Value = Response<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with `result` or `error`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self::Value, A::Error> {
        let mut response = None;
        while let Some(field) = fields.next_key()? {
            let found = match field {
                Field::Result => Response::Done(fields.next_value()?),
                Field::Error => Response::Failed(fields.next_value()?),
                Field::Other => {
                    fields.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            if response.replace(found).is_some() {
                return Err(A::Error::custom("more than one of `result` and `error`"));
            }
        }
        response.ok_or_else(|| A::Error::custom("neither `result` nor `error`"))
    }
}

/// Decodes a line of JSON from the server.
pub(super) fn read<T: DeserializeOwned>(line: &[u8]) -> Result<T> {
    serde_json::from_slice(line).map_err(|error| {
        // The message has only the column, because the text of the error may quote values.
        Error::corrupt(format!("the response does not match the protocol at column {}", error.column()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_has_a_result_or_an_error() {
        let read = |line: &str| serde_json::from_str::<Response<Option<u8>>>(line).map(Response::into_result);
        assert_eq!(read(r#"{"id":1,"result":null,"later":[{}]}"#).unwrap().unwrap(), None);
        assert_eq!(read(r#"{"result":7,"id":1}"#).unwrap().unwrap(), Some(7));
        assert!(read(r#"{"error":{"kind":"closed","message":"why"}}"#).unwrap().is_err());
        for line in ["{}", "[7]", "7", r#"{"result":1,"result":1}"#, r#"{"result":1,"error":{}}"#, r#"{"result":-1}"#] {
            assert!(read(line).is_err(), "{line}");
        }
    }
}
