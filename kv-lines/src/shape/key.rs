//! Keys and prefixes as arrays of strings.

use std::borrow::Cow;

use kv_core::{Key, KeyPrefix, Result};
use serde::{Deserialize, Serialize};

/// A key or a prefix. As a box it has no room to spare: most have one or two segments, and a batch has many.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Segments(Box<[String]>);

impl Segments {
    pub(crate) fn key(&self) -> Result<Key> {
        Key::new(&self.0)
    }

    pub(crate) fn prefix(&self) -> Result<KeyPrefix> {
        KeyPrefix::new(&self.0)
    }

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
