//! The context of an error: backend, operation and key.

use crate::error::{Operation, Result};
use crate::key::Key;

/// Adds backend, operation and key to the errors of one adapter (clause E-1).
///
/// An adapter keeps one as a constant and passes the result of every method of [`KvStore`](crate::KvStore) through it.
/// A result that is `Ok` is returned as it is.
#[derive(Debug, Clone, Copy)]
pub struct ErrorContext {
    backend: &'static str,
}

impl ErrorContext {
    /// The context of a backend, by the name that [`StoreInfo::name`](crate::StoreInfo) has.
    pub const fn new(backend: &'static str) -> Self {
        Self { backend }
    }

    /// Adds backend and operation.
    ///
    /// # Errors
    /// The error of `result`.
    #[inline]
    pub fn operation<T>(self, operation: Operation, result: Result<T>) -> Result<T> {
        result.map_err(|error| error.with_operation(operation).with_backend(self.backend))
    }

    /// Adds backend, operation and key.
    ///
    /// # Errors
    /// The error of `result`.
    #[inline]
    pub fn key<T>(self, operation: Operation, key: &Key, result: Result<T>) -> Result<T> {
        self.operation(operation, result).map_err(|error| error.with_key(key))
    }

    /// Adds backend, operation and the key at the same position to each result.
    pub fn keys<'k, T>(
        self,
        operation: Operation,
        keys: impl IntoIterator<Item = &'k Key>,
        results: Vec<Result<T>>,
    ) -> Vec<Result<T>> {
        keys.into_iter().zip(results).map(|(key, result)| self.key(operation, key, result)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn an_error_carries_backend_operation_and_key() {
        let key = Key::new(["a"]).unwrap();
        let context = ErrorContext::new("test");
        let error = context.key::<()>(Operation::Get, &key, Err(Error::closed())).unwrap_err();
        assert_eq!((error.backend(), error.operation()), (Some("test"), Some(Operation::Get)));
        assert_eq!(error.key(), Some(&key));
    }
}
