//! How much a store takes.

use crate::error::{Error, Result};

/// How much a store takes; above it a call is `Invalid` before any I/O.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Limits {
    /// The largest value, in bytes; at least [`Limits::MIN_VALUE_BYTES`] (clause V-3).
    pub max_value_bytes: usize,
    /// The largest message, in bytes; at least [`Limits::MIN_MESSAGE_BYTES`] (clause P-1).
    pub max_message_bytes: usize,
}

impl Limits {
    /// Every store takes values of this size, in bytes.
    pub const MIN_VALUE_BYTES: usize = 8 << 20;
    /// Every store with messages takes them of this size, in bytes.
    pub const MIN_MESSAGE_BYTES: usize = 1 << 20;
    /// 16 MiB a value and 1 MiB a message.
    pub const DEFAULT: Self = Self { max_value_bytes: 16 << 20, max_message_bytes: Self::MIN_MESSAGE_BYTES };

    /// Sets the largest value, in bytes.
    #[must_use]
    pub const fn with_max_value_bytes(mut self, bytes: usize) -> Self {
        self.max_value_bytes = bytes;
        self
    }

    /// Sets the largest message, in bytes.
    #[must_use]
    pub const fn with_max_message_bytes(mut self, bytes: usize) -> Self {
        self.max_message_bytes = bytes;
        self
    }

    /// Refuses a value that is too large.
    ///
    /// # Errors
    /// `Invalid`, with size and limit.
    pub fn check_value(&self, bytes: usize) -> Result<()> {
        Self::check("value", bytes, self.max_value_bytes)
    }

    /// Refuses a message that is too large.
    ///
    /// # Errors
    /// `Invalid`, with size and limit.
    pub fn check_message(&self, bytes: usize) -> Result<()> {
        Self::check("message", bytes, self.max_message_bytes)
    }

    fn check(what: &str, bytes: usize, limit: usize) -> Result<()> {
        if bytes > limit {
            return Err(Error::invalid(format!("the {what} has {bytes} bytes, the limit is {limit}")));
        }
        Ok(())
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}
