//! Namespaces: separate sets of keys in one store.

use std::fmt;

use smol_str::SmolStr;

use super::{Key, KeyPrefix};
use crate::encoding::{self, Encoder};
use crate::error::{Error, Result};

/// A separate set of keys inside a store.
///
/// A namespace is a list of segments. The segments are encoded together as **one** segment in front of the key, so that
/// the namespaces `["app"]` and `["app", "eu"]` share no key although one is a prefix of the other.
///
/// # Examples
/// ```
/// use kv_core::{Key, Namespace};
///
/// let key = Key::new(["users", "1"])?;
/// assert_eq!(Namespace::new(["app"])?.wrap(&key).as_str(), "app#users#1");
/// assert_eq!(Namespace::new(["app", "eu"])?.wrap(&key).as_str(), "app$23eu#users#1");
/// # Ok::<(), kv_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Namespace {
    /// The segments of the namespace, as a key.
    path: Key,
    /// The encoded namespace: the first segment of every stored key.
    segment: SmolStr,
}

impl Namespace {
    /// The maximum length of a key's canonical text including its namespace, in bytes.
    pub const MAX_KEY_BYTES: usize = Key::MAX_STORED_BYTES;

    /// The maximum length of an encoded namespace, in bytes.
    pub const MAX_BYTES: usize = Self::MAX_KEY_BYTES - Key::MAX_BYTES - 1;

    /// Creates a namespace from its segments.
    ///
    /// # Errors
    /// `Invalid` if there is no segment, or if the encoded namespace is longer than [`Namespace::MAX_BYTES`].
    pub fn new<S: AsRef<str>>(segments: impl IntoIterator<Item = S>) -> Result<Self> {
        Self::from_path(Key::new(segments)?)
    }

    /// Returns a namespace inside this namespace, with the segments of both.
    ///
    /// # Errors
    /// `Invalid` if the encoded result is longer than [`Namespace::MAX_BYTES`].
    pub fn nested(&self, inner: &Self) -> Result<Self> {
        Self::from_path(Key::join(self.path.as_str(), inner.path.as_str()))
    }

    /// Returns the canonical text of the namespace's segments, which [`Key::parse`] accepts.
    pub fn as_str(&self) -> &str {
        self.path.as_str()
    }

    /// Returns the stored key of a key in this namespace.
    #[must_use]
    pub fn wrap(&self, key: &Key) -> Key {
        Key::join(&self.segment, key.as_str())
    }

    /// Returns the stored prefix of a prefix in this namespace. The empty prefix becomes the descendants of the
    /// namespace's segment, because the key that consists of that segment alone is outside the namespace.
    #[must_use]
    pub fn wrap_prefix(&self, prefix: &KeyPrefix) -> KeyPrefix {
        match (prefix.to_key(), prefix.excluded_key()) {
            (_, Some(excluded)) => KeyPrefix::descendants(&self.wrap(&excluded)),
            (Some(key), None) => self.wrap(&key).into(),
            (None, None) => KeyPrefix::descendants(&Key { text: self.segment.clone() }),
        }
    }

    /// Returns the key without the namespace, or `None` if the stored key belongs to another namespace.
    #[must_use]
    pub fn strip(&self, stored: &Key) -> Option<Key> {
        let rest = stored.as_str().strip_prefix(self.segment.as_str())?.strip_prefix(encoding::SEPARATOR)?;
        Some(Key { text: rest.into() })
    }

    fn from_path(path: Key) -> Result<Self> {
        let mut encoder = Encoder::new();
        encoder.segment(path.as_str());
        let segment = SmolStr::new(encoder.text());
        if segment.len() > Self::MAX_BYTES {
            let (bytes, limit) = (segment.len(), Self::MAX_BYTES);
            return Err(Error::invalid(format!("the namespace has {bytes} encoded bytes, the limit is {limit}")));
        }
        Ok(Self { path, segment })
    }
}

impl TryFrom<Key> for Namespace {
    type Error = Error;

    fn try_from(path: Key) -> Result<Self> {
        Self::from_path(path)
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Namespace({:?})", self.as_str())
    }
}
