//! State of a broken store that `Debug` does not show.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A value behind a lock. `Debug` shows no content, because a store that shows entries would have a second defect.
#[derive(Default)]
pub(super) struct Hidden<T>(Mutex<T>);

impl<T> Hidden<T> {
    pub(super) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> fmt::Debug for Hidden<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hidden")
    }
}
