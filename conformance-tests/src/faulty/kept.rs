//! What a broken store remembers, and does not show.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A value behind a lock whose `Debug` tells nothing, so that remembering is not a fault in itself.
#[derive(Default)]
pub(super) struct Kept<T>(Mutex<T>);

impl<T> Kept<T> {
    pub(super) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> fmt::Debug for Kept<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kept")
    }
}
