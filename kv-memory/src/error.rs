//! The backend's name and the context of its errors.

use kv_core::adapter::ErrorContext;
use kv_core::{Error, Key, Operation, Result};

/// The backend's name in errors and reports.
pub(crate) const NAME: &str = "memory";

pub(crate) const CONTEXT: ErrorContext = ErrorContext::new(NAME);

/// Returns an error with its context. Out of line, to keep the error path out of `get` and `set`.
#[cold]
#[inline(never)]
pub(crate) fn reject<T>(operation: Operation, key: &Key, error: Error) -> Result<T> {
    CONTEXT.key(operation, key, Err(error))
}
