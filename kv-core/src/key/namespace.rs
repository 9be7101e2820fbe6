//! Namespaces: several sets of keys in one store.

use std::fmt;

use smol_str::SmolStr;

use super::{Key, KeyPrefix};
use crate::encoding::{self, Encoder};
use crate::error::{Error, Result};

/// A set of keys of its own inside a store.
///
/// A namespace is a list of segments. All of them together are encoded as **one** segment in front of the key, so that the
/// namespaces `["app"]` and `["app", "eu"]` share no key although one is a prefix of the other.
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
    /// The segments as one key, and that key's text as one segment.
    path: Key,
    segment: SmolStr,
}

impl Namespace {
    /// The longest canonical text of a key with its namespace, in bytes.
    pub const MAX_KEY_BYTES: usize = 2_400;

    /// The longest encoded namespace, in bytes.
    pub const MAX_BYTES: usize = Self::MAX_KEY_BYTES - Key::MAX_BYTES - 1;

    /// Builds a namespace from its segments.
    ///
    /// # Errors
    /// `Invalid` for no segment, or more than [`Namespace::MAX_BYTES`] encoded bytes.
    pub fn new<S: AsRef<str>>(segments: impl IntoIterator<Item = S>) -> Result<Self> {
        Self::from_path(Key::new(segments)?)
    }

    /// The namespace inside this one: the segments of both.
    ///
    /// # Errors
    /// `Invalid` where the result is too long.
    pub fn nested(&self, inner: &Self) -> Result<Self> {
        Self::from_path(Key::join(self.path.as_str(), inner.path.as_str()))
    }

    /// The canonical text of the namespace's own segments, as [`Key::parse`] reads it.
    pub fn as_str(&self) -> &str {
        self.path.as_str()
    }

    /// The key as it is stored.
    #[must_use]
    pub fn wrap(&self, key: &Key) -> Key {
        Key::join(&self.segment, key.as_str())
    }

    /// The prefix as it is stored.
    #[must_use]
    pub fn wrap_prefix(&self, prefix: &KeyPrefix) -> KeyPrefix {
        match prefix.to_key() {
            Some(key) => self.wrap(&key).into(),
            None => Key { text: self.segment.clone() }.into(),
        }
    }

    /// The key as its user knows it, where the stored key is of this namespace.
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
