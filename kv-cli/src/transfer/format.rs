//! The lines of an export file; the README describes them.

use std::time::Duration;

use anykv::{Entry, Expires, Expiry, Key, SetItem, SetOptions};
use kv_lines::shape::{self, Encoding, ExpiresAt, Value};
use serde::{Deserialize, Serialize};

/// The first line.
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

/// The last line. A file without it was cut off.
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

/// A line between them.
#[derive(Debug, Serialize)]
pub(super) struct Written<'e> {
    key: &'e Key,
    #[serde(flatten)]
    value: Value,
    expires_at: ExpiresAt,
}

impl<'e> Written<'e> {
    pub(super) fn new(key: &'e Key, entry: &Entry) -> Self {
        Self { key, value: Value::of(&entry.value), expires_at: entry.expires.into() }
    }
}

/// A line between them, as it is read.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Read {
    key: Key,
    value: String,
    #[serde(default)]
    encoding: Encoding,
    /// Not optional: an entry never lives for ever by omission.
    #[serde(deserialize_with = "Option::deserialize")]
    expires_at: Option<u64>,
}

impl Read {
    pub(super) fn into_item(self) -> Result<SetItem, String> {
        let Self { key, value, encoding, expires_at } = self;
        let value = Value { value, encoding }.into_bytes().map_err(|error| error.message().to_owned())?;
        let expiry = expires_at.map_or(Expiry::Never, |millis| shape::moment(Duration::from_millis(millis)));
        Ok(SetItem::new(key, value).with_options(SetOptions::default().with_expiry(expiry)))
    }
}

/// Whether the deadline is known, so that a copy of the entry is exact.
pub(super) fn is_exact(entry: &Entry) -> bool {
    entry.expires != Expires::Unknown
}
