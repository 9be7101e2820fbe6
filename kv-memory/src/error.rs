//! The context of errors.

use kv_core::adapter::ErrorContext;
use kv_core::{Error, Key, Operation, Result};

/// The backend's name in errors and in [`StoreInfo`](kv_core::StoreInfo).
pub(crate) const NAME: &str = "memory";

/// Adds the backend, the operation and the key to errors.
pub(crate) const CONTEXT: ErrorContext = ErrorContext::new(NAME);

/// Returns an error with its context. The function is not inlined, so that `get` and `set` contain no code for errors.
#[cold]
#[inline(never)]
pub(crate) fn reject<T>(operation: Operation, key: &Key, error: Error) -> Result<T> {
    CONTEXT.key(operation, key, Err(error))
}
