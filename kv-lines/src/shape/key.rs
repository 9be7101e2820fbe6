//! Keys and prefixes as arrays of strings.

use std::borrow::Cow;

use kv_core::{Key, KeyPrefix, Namespace, Result};
use serde::{Deserialize, Serialize};

/// A key or a prefix. The segments are a boxed slice, because a batch has many keys and a slice has no spare capacity.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Segments(Box<[String]>);

impl Segments {
    /// Decodes a key. A client may put a namespace in front of its keys, as the first segment, which does not count
    /// against the limit of a key.
    pub(crate) fn key(&self) -> Result<Key> {
        let (whole, parts) = (Key::new(&self.0), self.0.split_first());
        let (Err(_), Some((namespace, rest))) = (&whole, parts) else { return whole };
        match (Key::new([namespace]), Key::new(rest)) {
            (Ok(namespace), Ok(rest)) if namespace.as_str().len() <= Namespace::MAX_BYTES => {
                Key::parse_stored(&format!("{namespace}#{rest}"))
            }
            _ => whole,
        }
    }

    /// Decodes a prefix.
    pub(crate) fn prefix(&self) -> Result<KeyPrefix> {
        if self.0.is_empty() { Ok(KeyPrefix::ALL) } else { self.key().map(KeyPrefix::from) }
    }

    /// Decodes the keys of a batch.
    pub(crate) fn keys(all: &[Self]) -> Result<Vec<Key>> {
        all.iter().map(Self::key).collect()
    }
}

impl From<&Key> for Segments {
    fn from(key: &Key) -> Self {
        Self(key.segments().map(Cow::into_owned).collect())
    }
}

impl From<&KeyPrefix> for Segments {
    fn from(prefix: &KeyPrefix) -> Self {
        Self(prefix.segments().map(Cow::into_owned).collect())
    }
}

/// Returns the segments of a key.
pub fn segments(key: &Key) -> Vec<String> {
    key.segments().map(Cow::into_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_before_a_key_does_not_count_against_it() {
        let segments = |lengths: &[usize]| Segments(lengths.iter().map(|&length| "x".repeat(length)).collect());
        for (lengths, fits) in [
            (&[Key::MAX_BYTES][..], true),
            (&[Key::MAX_BYTES + 1], false),
            (&[Namespace::MAX_BYTES, Key::MAX_BYTES], true),
            (&[Namespace::MAX_BYTES, Key::MAX_BYTES - 2, 1], true),
            (&[Namespace::MAX_BYTES, Key::MAX_BYTES + 1], false),
            (&[Namespace::MAX_BYTES + 1, Key::MAX_BYTES], false),
        ] {
            let segments = segments(lengths);
            assert_eq!((segments.key().is_ok(), segments.prefix().is_ok()), (fits, fits), "{lengths:?}");
            if let Ok(key) = segments.key() {
                assert_eq!(Segments::from(&key).0, segments.0);
            }
        }
        assert!(Segments(Box::default()).key().is_err());
        assert_eq!(Segments(Box::default()).prefix().unwrap(), KeyPrefix::ALL);
    }
}
