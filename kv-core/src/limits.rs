//! Size limits of a store.

use crate::error::{Error, Result};

/// The size limits of a store. A call above a limit fails with `Invalid` before any I/O.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Limits {
    /// The maximum size of a value, in bytes; at least [`Limits::MIN_VALUE_BYTES`] (clause V-3).
    pub max_value_bytes: usize,
    /// The maximum size of a message, in bytes; at least [`Limits::MIN_MESSAGE_BYTES`] (clause P-1).
    pub max_message_bytes: usize,
}

impl Limits {
    /// The value size that every store must accept, in bytes.
    pub const MIN_VALUE_BYTES: usize = 8 << 20;
    /// The message size that every store with messages must accept, in bytes.
    pub const MIN_MESSAGE_BYTES: usize = 1 << 20;
    /// The default limits: 16 MiB for a value and 1 MiB for a message.
    pub const DEFAULT: Self = Self { max_value_bytes: 16 << 20, max_message_bytes: Self::MIN_MESSAGE_BYTES };

    /// Sets the maximum size of a value, in bytes.
    #[must_use]
    pub const fn with_max_value_bytes(mut self, bytes: usize) -> Self {
        self.max_value_bytes = bytes;
        self
    }

    /// Sets the maximum size of a message, in bytes.
    #[must_use]
    pub const fn with_max_message_bytes(mut self, bytes: usize) -> Self {
        self.max_message_bytes = bytes;
        self
    }

    /// Checks the size of a value.
    ///
    /// # Errors
    /// `Invalid`, which names the size and the limit, if the size is above the limit.
    pub fn check_value(&self, bytes: usize) -> Result<()> {
        Self::check("value", bytes, self.max_value_bytes)
    }

    /// Checks the size of a message.
    ///
    /// # Errors
    /// `Invalid`, which names the size and the limit, if the size is above the limit.
    pub fn check_message(&self, bytes: usize) -> Result<()> {
        Self::check("message", bytes, self.max_message_bytes)
    }

    fn check(object: &str, bytes: usize, limit: usize) -> Result<()> {
        if bytes > limit {
            return Err(Error::invalid(format!("the {object} has {bytes} bytes, the limit is {limit}")));
        }
        Ok(())
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}
