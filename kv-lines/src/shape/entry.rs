//! The JSON form of entries.

use kv_core::{Result, Version};
use serde::{Deserialize, Serialize};

use super::deadline::ExpiresAt;
use super::value::Value;

/// An entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The value.
    #[serde(flatten)]
    pub value: Value,
    /// The version, if the store has versions.
    pub version: Option<Version>,
    /// The deadline.
    pub expires_at: ExpiresAt,
}

impl From<&kv_core::Entry> for Entry {
    fn from(entry: &kv_core::Entry) -> Self {
        Self { value: Value::of(&entry.value), version: entry.version, expires_at: entry.expires.into() }
    }
}

impl Entry {
    /// Decodes the entry.
    ///
    /// # Errors
    /// `Invalid` for bad base64.
    pub fn into_entry(self) -> Result<kv_core::Entry> {
        let Self { value, version, expires_at } = self;
        let mut entry = kv_core::Entry::new(value.into_bytes()?).with_expires(expires_at);
        entry.version = version;
        Ok(entry)
    }
}

pub(crate) fn encode_entry(entry: Option<&kv_core::Entry>) -> Option<Entry> {
    entry.map(Entry::from)
}

pub(crate) fn decode_entry(entry: Option<Entry>) -> Result<Option<kv_core::Entry>> {
    entry.map(Entry::into_entry).transpose()
}
