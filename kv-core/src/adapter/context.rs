//! The context of an error: backend, operation and key.

use crate::error::{Operation, Result};
use crate::key::Key;

/// Adds the backend, the operation and the key to the errors of one adapter (clause E-1).
///
/// An adapter keeps an `ErrorContext` as a constant and passes the result of every [`KvStore`](crate::KvStore) method
/// through this constant. An `Ok` result is returned unchanged.
#[derive(Debug, Clone, Copy)]
pub struct ErrorContext {
    backend: &'static str,
}

impl ErrorContext {
    /// Creates the context of a backend. `backend` is the name in [`StoreInfo::name`](crate::StoreInfo).
    pub const fn new(backend: &'static str) -> Self {
        Self { backend }
    }

    /// Adds the backend and the operation to the error of `result`.
    ///
    /// # Errors
    /// The error of `result`.
    #[inline]
    pub fn operation<T>(self, operation: Operation, result: Result<T>) -> Result<T> {
        result.map_err(|error| error.with_operation(operation).with_backend(self.backend))
    }

    /// Adds the backend, the operation and the key to the error of `result`.
    ///
    /// # Errors
    /// The error of `result`.
    #[inline]
    pub fn key<T>(self, operation: Operation, key: &Key, result: Result<T>) -> Result<T> {
        self.operation(operation, result).map_err(|error| error.with_key(key))
    }

    /// Adds the backend, the operation and the key at the same position to each error. If there are more results than
    /// keys, the surplus results are returned unchanged, so that [`Kv`](crate::Kv) reports the mismatch.
    pub fn keys<'k, T>(
        self,
        operation: Operation,
        keys: impl IntoIterator<Item = &'k Key>,
        results: Vec<Result<T>>,
    ) -> Vec<Result<T>> {
        let mut keys = keys.into_iter();
        let context = |result| match keys.next() {
            Some(key) => self.key(operation, key, result),
            None => self.operation(operation, result),
        };
        results.into_iter().map(context).collect()
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
