//! Prefixes of whole segments.

use std::borrow::Cow;
use std::fmt;

use smol_str::SmolStr;

use super::Key;
use crate::encoding;
use crate::error::Result;

/// Zero or more whole segments that keys start with.
///
/// # Contract
/// - K-4: `["a"]` covers `["a"]`, `["a", "b"]` and `["a", ""]`, never `["ab"]`. The empty prefix covers every key; it is
///   not the prefix `[""]`.
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
    text: Option<SmolStr>,
}

impl KeyPrefix {
    /// The prefix of every key.
    pub const ALL: Self = Self { text: None };

    /// Builds a prefix from its segments; none is [`KeyPrefix::ALL`].
    ///
    /// # Errors
    /// `Invalid` where the prefix is longer than a key can be.
    pub fn new<S: AsRef<str>>(segments: impl IntoIterator<Item = S>) -> Result<Self> {
        let mut segments = segments.into_iter().peekable();
        if segments.peek().is_none() {
            return Ok(Self::ALL);
        }
        Key::new(segments).map(Self::from)
    }

    /// Whether the prefix covers every key.
    pub fn is_all(&self) -> bool {
        self.text.is_none()
    }

    /// The canonical text, where there is a segment.
    pub fn as_str(&self) -> Option<&str> {
        self.text.as_deref()
    }

    /// The prefix as a key: its own first key in order, where there is a segment.
    #[must_use]
    pub fn to_key(&self) -> Option<Key> {
        self.text.clone().map(|text| Key { text })
    }

    /// The decoded segments, in order.
    pub fn segments(&self) -> impl Iterator<Item = Cow<'_, str>> + Clone {
        self.text.as_deref().into_iter().flat_map(encoding::segments)
    }

    /// Whether the key starts with these segments.
    pub fn covers(&self, key: &Key) -> bool {
        let Some(prefix) = self.as_str() else { return true };
        match key.as_str().strip_prefix(prefix) {
            Some(rest) => rest.is_empty() || rest.starts_with(encoding::SEPARATOR),
            None => false,
        }
    }

    /// The one range of canonical texts that holds exactly what the prefix covers: from the first text, included, to the
    /// second, excluded; `None` is unbounded.
    pub fn range(&self) -> (&str, Option<String>) {
        match self.as_str() {
            Some(text) => (text, Some(format!("{text}{}", encoding::ESCAPE))),
            None => ("", None),
        }
    }
}

/// The prefix that covers the key and its descendants.
impl From<Key> for KeyPrefix {
    fn from(key: Key) -> Self {
        Self { text: Some(key.text) }
    }
}

impl From<&Key> for KeyPrefix {
    fn from(key: &Key) -> Self {
        Self::from(key.clone())
    }
}

/// The canonical text, or `*` for the empty prefix.
impl fmt::Display for KeyPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str().unwrap_or("*"))
    }
}

impl fmt::Debug for KeyPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.as_str() {
            Some(text) => write!(f, "KeyPrefix({text:?})"),
            None => f.write_str("KeyPrefix::ALL"),
        }
    }
}
