//! What errors say about where they come from.

use kv_core::{Key, Operation, Result};

/// The backend's name in errors and reports.
pub(crate) const NAME: &str = "sled";

/// Names operation and backend in an error.
pub(crate) fn named<T>(operation: Operation, result: Result<T>) -> Result<T> {
    result.map_err(|error| error.with_operation(operation).with_backend(NAME))
}

/// Names operation, backend and key in an error.
pub(crate) fn named_key<T>(operation: Operation, key: &Key, result: Result<T>) -> Result<T> {
    named(operation, result).map_err(|error| error.with_key(key))
}
