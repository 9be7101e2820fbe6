//! An estimate of the length of values, which bounds the size of responses.

use std::sync::atomic::{AtomicUsize, Ordering};

/// The expected length of the next value that is read, in bytes.
///
/// The estimate is the length of the longest value in the last response to a read of several keys. The next statement
/// that reads several keys reads as many keys as fit into [`ValueLength::MAX_RESPONSE_BYTES`] if their values have this
/// length.
#[derive(Debug)]
pub(crate) struct ValueLength(AtomicUsize);

impl ValueLength {
    /// The approximate maximum size of a response, in bytes. A single value may exceed this maximum.
    pub(crate) const MAX_RESPONSE_BYTES: usize = 4 << 20;
    /// The minimum of the estimate, in bytes.
    const MIN: usize = 256;
    /// The estimate before the first read, in bytes.
    const INITIAL: usize = 16 << 10;
    /// The estimate after a failed statement, in bytes. The estimate is large, because the response may have been too
    /// large.
    const AFTER_FAILURE: usize = 1 << 20;

    pub(crate) const fn new() -> Self {
        Self(AtomicUsize::new(Self::INITIAL))
    }

    /// Returns the estimate, in bytes.
    pub(crate) fn expected(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Records the length of the longest value in a response, or `None` if the statement failed.
    pub(crate) fn record(&self, longest: Option<usize>) {
        self.0.store(longest.map_or(Self::AFTER_FAILURE, |longest| longest.max(Self::MIN)), Ordering::Relaxed);
    }
}
