//! The lines of an export file. The README describes the format.

use std::time::Duration;

use anykv::{Entry, Expires, Expiry, Key, SetItem, SetOptions};
use kv_lines::shape::{self, Encoding, ExpiresAt, Value};
use serde::{Deserialize, Serialize};

/// The header, the first line.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) format: String,
    pub(super) version: u32,
}

impl Header {
    pub(super) const FORMAT: &str = "anykv-export";
    pub(super) const VERSION: u32 = 1;

    pub(super) fn new() -> Self {
        Self { format: Self::FORMAT.to_owned(), version: Self::VERSION }
    }
}

/// The footer, the last line. A file without a footer is truncated.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Footer {
    pub(super) end: End,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct End {
    pub(super) entries: u64,
}

/// The line of an entry, for writing.
#[derive(Debug, Serialize)]
pub(super) struct EntryLine<'e> {
    key: &'e Key,
    #[serde(flatten)]
    value: Value,
    expires_at: ExpiresAt,
}

impl<'e> EntryLine<'e> {
    pub(super) fn new(key: &'e Key, entry: &Entry) -> Self {
        Self { key, value: Value::of(&entry.value), expires_at: entry.expires.into() }
    }
}

/// The line of an entry, for reading.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ParsedEntry {
    key: Key,
    value: String,
    #[serde(default)]
    encoding: Encoding,
    /// The field is required, so that a missing deadline is an error and not an entry without a deadline.
    #[serde(deserialize_with = "Option::deserialize")]
    expires_at: Option<u64>,
}

impl ParsedEntry {
    pub(super) fn into_item(self) -> Result<SetItem, String> {
        let Self { key, value, encoding, expires_at } = self;
        let value = Value { value, encoding }.into_bytes().map_err(|error| error.message().to_owned())?;
        let expiry = expires_at.map_or(Expiry::Never, |millis| shape::expiry_at_unix(Duration::from_millis(millis)));
        Ok(SetItem::new(key, value).with_options(SetOptions::default().with_expiry(expiry)))
    }
}

/// True if the deadline is known, so that a copy of the entry is exact.
pub(super) fn is_exact(entry: &Entry) -> bool {
    entry.expires != Expires::Unknown
}
