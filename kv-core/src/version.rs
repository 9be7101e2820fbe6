//! Versions, which identify single writes of a key.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, Result};

/// An opaque token that identifies one write of one key (clause S-3).
///
/// A version has at most 16 bytes and supports only equality: it has no order and no readable content. A store
/// generates the version at random before the write. Therefore a version never repeats, whatever the backend loses or
/// restores, and an [`Indeterminate`](crate::ErrorKind::Indeterminate) error can carry the version of the write that
/// may have happened.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Version {
    length: u8,
    bytes: [u8; Self::MAX_BYTES],
}

impl Version {
    /// The maximum length of a version, in bytes.
    pub const MAX_BYTES: usize = 16;

    /// Generates a version of 128 random bits. The operating system seeds the generator.
    pub fn random() -> Self {
        // The generator fills a number in one step. It would fill an array byte by byte.
        Self::from(rand::random::<u128>().to_le_bytes())
    }

    /// Creates a version from the bytes that a backend stored.
    ///
    /// # Errors
    /// `Invalid` if there are no bytes, or more than [`Version::MAX_BYTES`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let mut version = Self { length: 0, bytes: [0; Self::MAX_BYTES] };
        match (u8::try_from(bytes.len()), version.bytes.get_mut(..bytes.len())) {
            (Ok(length @ 1..), Some(target)) => {
                target.copy_from_slice(bytes);
                version.length = length;
                Ok(version)
            }
            _ => Err(Error::invalid(format!("a version has 1 to {} bytes, not {}", Self::MAX_BYTES, bytes.len()))),
        }
    }

    /// Returns the bytes to store.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or(&self.bytes)
    }
}

impl From<[u8; Self::MAX_BYTES]> for Version {
    fn from(bytes: [u8; Self::MAX_BYTES]) -> Self {
        Self { length: 16, bytes }
    }
}

/// Writes lower-case hex.
impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Version({self})")
    }
}

/// Parses the text that `Display` writes.
impl FromStr for Version {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let digits = text.as_bytes();
        let bytes: Option<Vec<u8>> = digits
            .chunks(2)
            .map(|pair| match std::str::from_utf8(pair) {
                Ok(pair) if pair.len() == 2 && !pair.starts_with('+') => u8::from_str_radix(pair, 16).ok(),
                _ => None,
            })
            .collect();
        Self::from_bytes(&bytes.ok_or_else(|| Error::invalid("a version is an even number of hex digits"))?)
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        std::borrow::Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_bytes_round_trip() {
        let version = Version::random();
        assert_eq!(version.to_string().parse::<Version>().unwrap(), version);
        assert_eq!(Version::from_bytes(version.as_bytes()).unwrap(), version);
        let short = Version::from_bytes(&[0, 255]).unwrap();
        assert_eq!(short.to_string(), "00ff");
        assert_ne!(short, Version::from_bytes(&[0, 255, 0]).unwrap());
    }

    #[test]
    fn invalid_text_is_refused() {
        for text in ["", "0", "xy", "+1", &"00".repeat(17)] {
            assert!(text.parse::<Version>().is_err(), "{text}");
        }
    }
}
