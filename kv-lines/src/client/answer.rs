//! Reading responses.

use std::fmt;

use kv_core::{Error, Result};
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

use crate::line::MAX_VALUES_BYTES;
use crate::shape::Failure;

/// The longest answer without values, in bytes; and what one with values has beside them.
pub(super) const BRIEF_BYTES: usize = 64 << 10;
/// The longest answer of all, in bytes. A server writes [`MAX_VALUES_BYTES`] of values into one, or one value; as text a byte
/// takes up to six, and there are keys, versions and deadlines beside it.
pub(super) const MAX_BYTES: usize = 256 << 20;
const _: () = assert!(6 * 2 * MAX_VALUES_BYTES <= MAX_BYTES / 4 * 3);

/// The longest answer that has so many bytes of values.
pub(super) fn bytes_with(values: usize) -> usize {
    values.saturating_mul(6).saturating_add(BRIEF_BYTES).min(MAX_BYTES)
}

/// A response, or one element of a batch.
///
/// It is read as it comes: to keep what may be either until that is known takes many times the memory of the line.
#[derive(Debug)]
pub(super) enum Answer<T> {
    Failed(Failure),
    Done(T),
}

impl<T> Answer<T> {
    pub(super) fn into_result(self) -> Result<T> {
        match self {
            Self::Failed(error) => Err(error.into_error()),
            Self::Done(result) => Ok(result),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Answer<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Response(std::marker::PhantomData))
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

struct Response<T>(std::marker::PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Response<T> {
    type Value = Answer<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with `result` or `error`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self::Value, A::Error> {
        let mut answer = None;
        while let Some(field) = fields.next_key()? {
            let found = match field {
                Field::Result => Answer::Done(fields.next_value()?),
                Field::Error => Answer::Failed(fields.next_value()?),
                Field::Other => {
                    fields.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            if answer.replace(found).is_some() {
                return Err(A::Error::custom("more than one of `result` and `error`"));
            }
        }
        answer.ok_or_else(|| A::Error::custom("neither `result` nor `error`"))
    }
}

/// A line of JSON from the server.
pub(super) fn read<T: DeserializeOwned>(line: &[u8]) -> Result<T> {
    serde_json::from_slice(line).map_err(|error| {
        // Where, but not what: the line may hold values.
        Error::corrupt(format!("what the server answered is not of the protocol, at column {}", error.column()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_a_result_or_an_error() {
        let read = |line: &str| serde_json::from_str::<Answer<Option<u8>>>(line).map(Answer::into_result);
        assert_eq!(read(r#"{"id":1,"result":null,"later":[{}]}"#).unwrap().unwrap(), None);
        assert_eq!(read(r#"{"result":7,"id":1}"#).unwrap().unwrap(), Some(7));
        assert!(read(r#"{"error":{"kind":"closed","message":"why"}}"#).unwrap().is_err());
        for line in ["{}", "[7]", "7", r#"{"result":1,"result":1}"#, r#"{"result":1,"error":{}}"#, r#"{"result":-1}"#] {
            assert!(read(line).is_err(), "{line}");
        }
    }
}
