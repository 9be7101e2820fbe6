//! Errors as `object_store` reports them.

use object_store::Error;

pub(crate) type Result<T> = object_store::Result<T>;

/// Creates an error for which `object_store` has no specific kind.
pub(crate) fn generic(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Generic { store: "anykv", source: source.into() }
}

/// Converts an error of the store.
pub(crate) fn failed(error: kv_core::Error) -> Error {
    generic(error)
}
