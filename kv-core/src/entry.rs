//! Entries: the values that a store holds, with version and deadline.

use bytes::Bytes;

use crate::expiry::Expires;
use crate::version::Version;

/// A live entry: value, version and deadline of one write (clause G-1).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
// The field order matters for speed. Every read moves an entry through several enums. With `value` first, the niche
// that stores their discriminants lies behind `value`. If the niche were in front, the compiler would copy `value` in
// misaligned pieces. This costs a fifth of the time of a read in kv-memory.
#[repr(C)]
pub struct Entry {
    /// The value. It is reference-counted: a clone copies no bytes.
    pub value: Bytes,
    /// The version of the write. It is `None` only in stores without
    /// [`Capabilities::versions`](crate::Capabilities::versions).
    pub version: Option<Version>,
    /// The deadline of the entry.
    pub expires: Expires,
}

impl Entry {
    /// Creates an entry without a version that never expires.
    pub fn new(value: impl Into<Bytes>) -> Self {
        Self { value: value.into(), version: None, expires: Expires::Never }
    }

    /// Sets the version.
    #[must_use]
    pub fn with_version(mut self, version: Version) -> Self {
        self.version = Some(version);
        self
    }

    /// Sets the deadline.
    #[must_use]
    pub fn with_expires(mut self, expires: impl Into<Expires>) -> Self {
        self.expires = expires.into();
        self
    }
}
