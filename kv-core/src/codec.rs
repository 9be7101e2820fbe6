//! How typed values become bytes.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// How a [`Kv`](crate::Kv) writes and reads typed values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
#[non_exhaustive]
pub enum Codec {
    /// JSON text.
    #[default]
    Json,
    /// MessagePack with named fields (feature `msgpack`).
    #[cfg(feature = "msgpack")]
    MessagePack,
    /// postcard: the smallest, for types that never change shape (feature `postcard`).
    #[cfg(feature = "postcard")]
    Postcard,
}

impl Codec {
    /// The value as bytes.
    ///
    /// # Errors
    /// `Invalid` where the type cannot be written in this format.
    pub fn encode<T: Serialize + ?Sized>(self, value: &T) -> Result<Bytes> {
        let encoded = match self {
            Self::Json => serde_json::to_vec(value).ok(),
            #[cfg(feature = "msgpack")]
            Self::MessagePack => rmp_serde::to_vec_named(value).ok(),
            #[cfg(feature = "postcard")]
            Self::Postcard => postcard::to_allocvec(value).ok(),
        };
        // The libraries' messages may hold parts of the value: they are not passed on.
        let refused = || Error::invalid(format!("{} cannot be written as {}", std::any::type_name::<T>(), self.name()));
        encoded.map(Bytes::from).ok_or_else(refused)
    }

    /// The value that the bytes stand for.
    ///
    /// # Contract
    /// - V-4: bytes that do not decode are an error, never "absent".
    ///
    /// # Errors
    /// `Corrupt`, with the type and, for JSON, the place.
    pub fn decode<T: DeserializeOwned>(self, bytes: &[u8]) -> Result<T> {
        let (decoded, place) = match self {
            Self::Json => match serde_json::from_slice(bytes) {
                Ok(value) => (Some(value), String::new()),
                Err(error) => (None, format!(" at line {} column {}", error.line(), error.column())),
            },
            #[cfg(feature = "msgpack")]
            Self::MessagePack => (rmp_serde::from_slice(bytes).ok(), String::new()),
            #[cfg(feature = "postcard")]
            Self::Postcard => match postcard::take_from_bytes(bytes) {
                Ok((value, [])) => (Some(value), String::new()),
                _ => (None, String::new()),
            },
        };
        // The libraries' messages may hold parts of the value: they are not passed on.
        let refused = || {
            let (bytes, name, wanted) = (bytes.len(), self.name(), std::any::type_name::<T>());
            Error::corrupt(format!("the stored {bytes} bytes do not decode as {name} to {wanted}{place}"))
        };
        decoded.ok_or_else(refused)
    }

    /// The name of the format.
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "JSON",
            #[cfg(feature = "msgpack")]
            Self::MessagePack => "MessagePack",
            #[cfg(feature = "postcard")]
            Self::Postcard => "postcard",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn every() -> Vec<Codec> {
        vec![
            Codec::Json,
            #[cfg(feature = "msgpack")]
            Codec::MessagePack,
            #[cfg(feature = "postcard")]
            Codec::Postcard,
        ]
    }

    #[test]
    fn values_round_trip_in_every_format() {
        let value = BTreeMap::from([("a".to_owned(), Some(u64::MAX)), ("é🦀".to_owned(), None)]);
        for codec in every() {
            let bytes = codec.encode(&value).unwrap();
            assert_eq!(codec.decode::<BTreeMap<String, Option<u64>>>(&bytes).unwrap(), value, "{codec:?}");
        }
    }

    #[test]
    fn what_does_not_decode_is_an_error_that_shows_no_value() {
        for codec in every() {
            let bytes = codec.encode("hunter2").unwrap();
            let error = codec.decode::<(bool, u64, u64, u64)>(&bytes).unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::Corrupt);
            assert!(!format!("{error} {error:#?}").contains("hunter2"), "{error}");
        }
    }
}
