//! What errors say about where they come from.

use kv_core::{Error, Key, Operation, Result};

use crate::builder::NAME;

/// Names operation and backend in an error.
#[inline]
pub(crate) fn named<T>(operation: Operation, result: Result<T>) -> Result<T> {
    result.map_err(|error| error.with_operation(operation).with_backend(NAME))
}

/// Names operation, backend and key in an error.
#[inline]
pub(crate) fn named_key<T>(operation: Operation, key: &Key, result: Result<T>) -> Result<T> {
    named(operation, result).map_err(|error| error.with_key(key))
}

/// What a store answers to what it does not take. Out of line, as what is never awaited.
#[cold]
#[inline(never)]
pub(crate) fn refused<T>(operation: Operation, key: &Key, error: Error) -> Result<T> {
    named_key(operation, key, Err(error))
}
