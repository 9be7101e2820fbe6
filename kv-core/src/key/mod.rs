//! Array-style keys, prefixes and namespaces.

mod namespace;
mod prefix;
mod segments;

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smol_str::SmolStr;

pub use self::namespace::Namespace;
pub use self::prefix::KeyPrefix;
pub use self::segments::{IntoKey, IntoPrefix};
use crate::encoding::{self, Encoder};
use crate::error::{Error, Result};

/// An array-style key: one or more segments, each of them any UTF-8 string.
///
/// A key holds its canonical text: the segments joined by `#`, with `$HH` for every byte up to `$` inside a segment.
/// Memory, files, servers and the command line all use this text. Keys are ordered segment by segment, by UTF-8 bytes,
/// with a parent before its children. Cloning does not copy the text.
///
/// # Contract
/// - K-1: a segment is any UTF-8 string, including the empty string. Nothing is normalised, case-folded or trimmed.
/// - K-2: two keys are equal if and only if their segments are equal, pair by pair and byte for byte.
/// - K-5: at least one segment, and at most [`Key::MAX_BYTES`] bytes of canonical text.
///
/// # Examples
/// ```
/// use kv_core::Key;
///
/// let key = Key::new(["users", "123", "profile"])?;
/// assert_eq!(key.as_str(), "users#123#profile");
/// assert_eq!(Key::parse("users#123#profile")?, key);
///
/// let url = Key::new(["doc", "https://example.com/a#b"])?;
/// assert_eq!(url.as_str(), "doc#https://example.com/a$23b");
/// assert_eq!(url.segments().nth(1).as_deref(), Some("https://example.com/a#b"));
/// # Ok::<(), kv_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    text: SmolStr,
}

impl Key {
    /// The maximum length of a key's canonical text without a namespace, in bytes.
    pub const MAX_BYTES: usize = 2_048;

    /// The value of [`Namespace::MAX_KEY_BYTES`], defined here so that this file does not depend on namespaces.
    const MAX_STORED_BYTES: usize = 2_400;

    /// Creates a key from its segments.
    ///
    /// # Errors
    /// `Invalid` if there is no segment, or if the canonical text is longer than [`Key::MAX_BYTES`].
    pub fn new<S: AsRef<str>>(segments: impl IntoIterator<Item = S>) -> Result<Self> {
        let mut encoder = Encoder::new();
        for segment in segments {
            encoder.segment(segment.as_ref());
        }
        Self::from_encoder(&encoder)
    }

    /// Parses canonical text, as returned by [`Key::as_str`]. The empty text is the key `[""]`.
    ///
    /// # Errors
    /// `Invalid` if the text is not canonical, or longer than [`Key::MAX_BYTES`].
    pub fn parse(text: &str) -> Result<Self> {
        check_bytes(text.len(), Self::MAX_BYTES)?;
        encoding::check(text)?;
        Ok(Self { text: text.into() })
    }

    /// Parses the canonical text of a stored key, which can be longer than [`Key::MAX_BYTES`] because it includes the
    /// [`Namespace`].
    ///
    /// # Errors
    /// `Invalid` if the text is not canonical, or longer than [`Namespace::MAX_KEY_BYTES`].
    pub fn parse_stored(text: &str) -> Result<Self> {
        check_bytes(text.len(), Self::MAX_STORED_BYTES)?;
        encoding::check(text)?;
        Ok(Self { text: text.into() })
    }

    /// Returns the canonical text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the decoded segments in order. There is at least one segment.
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = Cow<'_, str>> + Clone {
        encoding::segments(&self.text)
    }

    /// Returns the key with one more segment at the end.
    ///
    /// # Errors
    /// `Invalid` if the result is longer than [`Key::MAX_BYTES`].
    pub fn child(&self, segment: impl AsRef<str>) -> Result<Self> {
        let mut encoder = Encoder::new();
        encoder.segment(segment.as_ref());
        let child = Self::join(&self.text, encoder.text());
        check_bytes(child.text.len(), Self::MAX_BYTES)?;
        Ok(child)
    }

    /// Returns the key without its last segment, or `None` if the key has only one segment.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        self.text.rsplit_once(encoding::SEPARATOR).map(|(parent, _)| Self { text: parent.into() })
    }

    /// Returns a short digest of the key for logs and error texts. The digest does not contain the key itself.
    ///
    /// The digest is `~` and eight hex digits of the FNV-1a hash of the canonical text. It is not a cryptographic hash:
    /// a guessed key can be checked against it.
    pub fn fingerprint(&self) -> String {
        let hash =
            self.text.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        format!("~{hash:08x}")
    }

    /// Formats a number as a segment that sorts numerically: sixteen lower-case hex digits.
    ///
    /// # Examples
    /// ```
    /// use kv_core::Key;
    ///
    /// assert!(Key::new(["log", &Key::ordered(9)])? < Key::new(["log", &Key::ordered(10)])?);
    /// # Ok::<(), kv_core::Error>(())
    /// ```
    pub fn ordered(number: u64) -> String {
        format!("{number:016x}")
    }

    fn from_encoder(encoder: &Encoder) -> Result<Self> {
        if encoder.segments() == 0 {
            return Err(Error::invalid("a key has at least one segment"));
        }
        let text = encoder.text();
        check_bytes(text.len(), Self::MAX_BYTES)?;
        Ok(Self { text: SmolStr::new(text) })
    }

    /// Joins two canonical texts with a separator.
    fn join(first: &str, rest: &str) -> Self {
        Self { text: SmolStr::new(encoding::join(first, rest).as_str()) }
    }
}

fn check_bytes(bytes: usize, limit: usize) -> Result<()> {
    if bytes > limit {
        return Err(Error::invalid(format!("the key has {bytes} encoded bytes, the limit is {limit}")));
    }
    Ok(())
}

/// Writes the canonical text.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({:?})", self.text)
    }
}

impl FromStr for Key {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

impl AsRef<str> for Key {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

/// Allows look-ups by canonical text: a key and its text compare and hash alike.
impl std::borrow::Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.text
    }
}

/// Serializes as the canonical text.
impl Serialize for Key {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys() -> impl Strategy<Value = Vec<String>> {
        // Few characters, all of them special in some backend, so that almost equal keys are common.
        let segment = prop_oneof![
            4 => proptest::collection::vec(prop::sample::select(vec!['\0', '\n', ' ', '"', '#', '$', '%', '0', '2', '4', 'A', 'a', '\u{7f}', 'é', '🦀']), 0..4)
                .prop_map(String::from_iter),
            1 => any::<String>().prop_filter("short", |text| text.len() < 200),
        ];
        proptest::collection::vec(segment, 1..5)
    }

    proptest! {
        #[test]
        fn a_key_decodes_to_the_segments_from_which_it_was_built(segments in keys()) {
            let key = Key::new(&segments).unwrap();
            prop_assert_eq!(key.segments().collect::<Vec<_>>(), segments);
            prop_assert_eq!(&Key::parse(key.as_str()).unwrap(), &key);
            prop_assert!(key.as_str().bytes().all(|byte| byte > b' '));
        }

        #[test]
        fn keys_compare_as_their_segments_do(left in keys(), right in keys()) {
            let (one, other) = (Key::new(&left).unwrap(), Key::new(&right).unwrap());
            prop_assert_eq!(one.cmp(&other), left.cmp(&right));
            prop_assert_eq!(one == other, left == right);
        }

        #[test]
        fn a_prefix_covers_whole_segments_and_is_one_range(prefix in keys(), key in keys()) {
            let expected = key.starts_with(&prefix);
            let (prefix, key) = (KeyPrefix::new(&prefix).unwrap(), Key::new(&key).unwrap());
            prop_assert_eq!(prefix.covers(&key), expected);
            let (start, end) = prefix.range();
            prop_assert_eq!(key.as_str() >= start && end.is_none_or(|end| key.as_str() < end.as_str()), expected);
        }

        #[test]
        fn the_prefix_of_descendants_does_not_cover_the_key_itself(prefix in keys(), key in keys()) {
            let (own, key) = (Key::new(&prefix).unwrap(), Key::new(&key).unwrap());
            let (whole, descendants) = (KeyPrefix::from(&own), KeyPrefix::descendants(&own));
            let expected = whole.covers(&key) && key != own;
            prop_assert_eq!(descendants.covers(&key), expected);
            let (start, end) = descendants.range();
            prop_assert_eq!(key.as_str() >= start && end.is_none_or(|end| key.as_str() < end.as_str()), expected);
            prop_assert_eq!(descendants.excluded_key(), Some(own));
        }

        #[test]
        fn only_canonical_text_is_parsed(text in "[#$0-9A-Fa-f!%]{0,8}|.*") {
            if let Ok(key) = Key::parse(&text) {
                let again = Key::new(key.segments()).unwrap();
                prop_assert_eq!(again.as_str(), text);
            }
        }

        #[test]
        fn different_namespaces_share_no_key(one in keys(), other in keys(), left in keys(), right in keys()) {
            let (a, b) = (Namespace::new(&one), Namespace::new(&other));
            prop_assume!(a.is_ok() && b.is_ok());
            let (a, b) = (a.unwrap(), b.unwrap());
            let (left, right) = (Key::new(&left).unwrap(), Key::new(&right).unwrap());
            prop_assert_eq!(a.wrap(&left) == b.wrap(&right), one == other && left == right);
            prop_assert_eq!(b.strip(&a.wrap(&left)), (one == other).then_some(left));
        }
    }

    #[test]
    fn text_that_is_not_canonical_is_refused() {
        for text in ["$41", "a$", "a$2", "$0a", "$25", "a b", "a\n", "\0", "$+1", "$é"] {
            assert!(Key::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn long_and_empty_keys_are_refused_with_size_and_limit() {
        assert!(Key::new(["x".repeat(Key::MAX_BYTES)]).is_ok());
        let error = Key::new([" ".repeat(700)]).unwrap_err();
        assert_eq!(error.to_string(), "invalid: the key has 2100 encoded bytes, the limit is 2048");
        assert!(Key::new::<&str>([]).is_err());
        assert!(Key::new([""]).is_ok());
    }
}
