//! What a store holds under a key.

use bytes::Bytes;

use crate::expiry::Expires;
use crate::version::Version;

/// A live entry: value, version and deadline of one and the same write (clause G-1).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
// Every read moves an entry through some enums. In this order the field that tells their variants apart lies behind the
// value and not in front of it, where it makes the compiler move the value in pieces across its words: a fifth of a hit in
// memory.
#[repr(C)]
pub struct Entry {
    /// The bytes that were written. Shared: a clone copies nothing.
    pub value: Bytes,
    /// The version that the write gave; `None` only without [`Capabilities::versions`](crate::Capabilities::versions).
    pub version: Option<Version>,
    /// When the entry expires.
    pub expires: Expires,
}

impl Entry {
    /// An entry without version that never expires.
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
