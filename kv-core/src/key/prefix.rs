//! Prefixes of whole segments.

use std::borrow::Cow;
use std::fmt;

use smol_str::SmolStr;

use super::Key;
use crate::encoding;
use crate::error::Result;

/// A prefix of keys: zero or more whole segments.
///
/// # Contract
/// - K-4: `["a"]` covers `["a"]`, `["a", "b"]` and `["a", ""]`, but not `["ab"]`. The empty prefix covers every key; it
///   differs from the prefix `[""]`.
///
/// # Examples
/// ```
/// use kv_core::{Key, KeyPrefix};
///
/// let users = KeyPrefix::new(["users"])?;
/// assert!(users.covers(&Key::new(["users", "123"])?));
/// assert!(!users.covers(&Key::new(["users2"])?));
/// assert!(KeyPrefix::ALL.covers(&Key::new([""])?));
/// # Ok::<(), kv_core::Error>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct KeyPrefix {
    /// The canonical text, or `None` for the empty prefix.
    text: Option<SmolStr>,
    /// The start of the range if the prefix excludes its own key; otherwise `None`.
    first: Option<SmolStr>,
}

impl KeyPrefix {
    /// The empty prefix, which covers every key.
    pub const ALL: Self = Self { text: None, first: None };

    /// Creates a prefix from its segments; without segments it is [`KeyPrefix::ALL`].
    ///
    /// # Errors
    /// `Invalid` if the canonical text is longer than [`Key::MAX_BYTES`].
    pub fn new<S: AsRef<str>>(segments: impl IntoIterator<Item = S>) -> Result<Self> {
        let mut segments = segments.into_iter().peekable();
        if segments.peek().is_none() {
            return Ok(Self::ALL);
        }
        Key::new(segments).map(Self::from)
    }

    /// Creates the prefix that covers the descendants of a key, and not the key itself.
    ///
    /// A namespace clears its entries with such a prefix, because the key that consists of the namespace's segment
    /// alone is outside the namespace.
    #[must_use]
    pub fn descendants(key: &Key) -> Self {
        let first = SmolStr::new(format!("{}{}", key.as_str(), encoding::SEPARATOR));
        Self { text: Some(key.text.clone()), first: Some(first) }
    }

    /// Returns the key whose descendants the prefix covers, if the prefix does not cover that key itself.
    pub fn excluded_key(&self) -> Option<Key> {
        self.first.as_ref().and(self.text.clone()).map(|text| Key { text })
    }

    /// True if the prefix is empty and therefore covers every key.
    pub fn is_all(&self) -> bool {
        self.text.is_none()
    }

    /// Returns the canonical text, or `None` for the empty prefix.
    pub fn as_str(&self) -> Option<&str> {
        self.text.as_deref()
    }

    /// Returns the key with the same segments, or `None` for the empty prefix. This key is the first key that the
    /// prefix covers, unless the prefix excludes it.
    #[must_use]
    pub fn to_key(&self) -> Option<Key> {
        self.text.clone().map(|text| Key { text })
    }

    /// Returns the decoded segments in order.
    pub fn segments(&self) -> impl Iterator<Item = Cow<'_, str>> + Clone {
        self.text.as_deref().into_iter().flat_map(encoding::segments)
    }

    /// True if the key starts with the segments of the prefix.
    pub fn covers(&self, key: &Key) -> bool {
        let Some(prefix) = self.as_str() else { return true };
        match key.as_str().strip_prefix(prefix) {
            Some("") => self.first.is_none(),
            Some(rest) => rest.starts_with(encoding::SEPARATOR),
            None => false,
        }
    }

    /// Returns the range of canonical texts that contains exactly the covered keys: the inclusive start, and the
    /// exclusive end or `None` for an unbounded range.
    pub fn range(&self) -> (&str, Option<String>) {
        match self.as_str() {
            Some(text) => (self.first.as_deref().unwrap_or(text), Some(format!("{text}{}", encoding::ESCAPE))),
            None => ("", None),
        }
    }
}

/// Creates the prefix that covers the key and its descendants.
impl From<Key> for KeyPrefix {
    fn from(key: Key) -> Self {
        Self { text: Some(key.text), first: None }
    }
}

impl From<&Key> for KeyPrefix {
    fn from(key: &Key) -> Self {
        Self::from(key.clone())
    }
}

/// Writes the canonical text, or `*` for the empty prefix.
impl fmt::Display for KeyPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str().unwrap_or("*"))
    }
}

impl fmt::Debug for KeyPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.as_str() {
            Some(text) if self.first.is_some() => write!(f, "KeyPrefix::descendants({text:?})"),
            Some(text) => write!(f, "KeyPrefix({text:?})"),
            None => f.write_str("KeyPrefix::ALL"),
        }
    }
}
