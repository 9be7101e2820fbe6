//! An estimate of the size of values, which bounds the size of an answer.

use std::sync::atomic::{AtomicUsize, Ordering};

/// The expected length in bytes of the next value that is read.
///
/// It is the longest value of the last statement that read several keys. A read of several keys asks for as many keys
/// as fit into [`ValueLength::MAX_ANSWER_BYTES`] at this length.
#[derive(Debug)]
pub(crate) struct ValueLength(AtomicUsize);

impl ValueLength {
    /// Approximate limit of the bytes in one answer. A single value may exceed it.
    pub(crate) const MAX_ANSWER_BYTES: usize = 4 << 20;
    /// The least length that an estimate assumes.
    const MIN: usize = 256;
    /// The estimate before the first read.
    const INITIAL: usize = 16 << 10;
    /// The estimate after a statement that failed, because its answer may have been too long.
    const AFTER_FAILURE: usize = 1 << 20;

    pub(crate) const fn new() -> Self {
        Self(AtomicUsize::new(Self::INITIAL))
    }

    /// The estimate in bytes.
    pub(crate) fn expected(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Records the longest value of an answer; `None` if the statement failed.
    pub(crate) fn record(&self, longest: Option<usize>) {
        self.0.store(longest.map_or(Self::AFTER_FAILURE, |longest| longest.max(Self::MIN)), Ordering::Relaxed);
    }
}
