//! Codecs between typed values and bytes.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// The format in which a [`Kv`](crate::Kv) stores typed values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
#[non_exhaustive]
pub enum Codec {
    /// JSON text.
    #[default]
    Json,
    /// MessagePack with named fields (feature `msgpack`).
    #[cfg(feature = "msgpack")]
    MessagePack,
    /// postcard: the most compact format, for types whose shape never changes (feature `postcard`).
    #[cfg(feature = "postcard")]
    Postcard,
}

impl Codec {
    /// Encodes a value.
    ///
    /// # Errors
    /// `Invalid` if the format cannot represent the value.
    pub fn encode<T: Serialize + ?Sized>(self, value: &T) -> Result<Bytes> {
        let encoded = match self {
            Self::Json => serde_json::to_vec(value).ok(),
            #[cfg(feature = "msgpack")]
            Self::MessagePack => rmp_serde::to_vec_named(value).ok(),
            #[cfg(feature = "postcard")]
            Self::Postcard => postcard::to_allocvec(value).ok(),
        };
        // The source error is dropped: its text may contain parts of the value.
        let refused = || Error::invalid(format!("{} cannot be encoded as {}", std::any::type_name::<T>(), self.name()));
        encoded.map(Bytes::from).ok_or_else(refused)
    }

    /// Decodes a value.
    ///
    /// # Contract
    /// - V-4: bytes that do not decode are an error, never "absent".
    ///
    /// # Errors
    /// `Corrupt`, which names the type and, for JSON, the line and the column.
    pub fn decode<T: DeserializeOwned>(self, bytes: &[u8]) -> Result<T> {
        let (decoded, location) = match self {
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
        // The source error is dropped: its text may contain parts of the value.
        let refused = || {
            let (bytes, name, wanted) = (bytes.len(), self.name(), std::any::type_name::<T>());
            Error::corrupt(format!("the {bytes} stored bytes do not decode as {name} to {wanted}{location}"))
        };
        decoded.ok_or_else(refused)
    }

    /// Returns the name of the format.
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
    fn a_decoding_error_does_not_show_the_value() {
        for codec in every() {
            let bytes = codec.encode("hunter2").unwrap();
            let error = codec.decode::<(bool, u64, u64, u64)>(&bytes).unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::Corrupt);
            assert!(!format!("{error} {error:#?}").contains("hunter2"), "{error}");
        }
    }
}
