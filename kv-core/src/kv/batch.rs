//! Results of calls with several keys.

use crate::error::{Error, Result};
use crate::key::Key;

/// One result for each key, in the order of the keys. Each key can fail separately (clause B-1).
#[derive(Debug)]
#[must_use = "each key of a batch can fail separately: `.all()?` returns the values or the first error"]
pub struct Batch<T> {
    results: Vec<Result<T>>,
}

impl<T> Batch<T> {
    /// Returns all values, or the first error. The error contains its key.
    ///
    /// # Errors
    /// The first error in the order of the keys.
    pub fn all(self) -> Result<Vec<T>> {
        self.results.into_iter().collect()
    }

    /// Returns the errors in the order of the keys. Each contains its key, unless the key itself was invalid.
    pub fn errors(&self) -> impl Iterator<Item = &Error> {
        self.results.iter().filter_map(|result| result.as_ref().err())
    }

    /// Returns the number of keys.
    pub fn len(&self) -> usize {
        self.results.len()
    }

    /// True if there are no keys.
    pub fn is_empty(&self) -> bool {
        self.results.is_empty()
    }
}

/// Iterates over the results, one for each key.
impl<T> IntoIterator for Batch<T> {
    type Item = Result<T>;
    type IntoIter = std::vec::IntoIter<Result<T>>;

    fn into_iter(self) -> Self::IntoIter {
        self.results.into_iter()
    }
}

/// The input positions of a batch, with the errors of the inputs that are not sent to the store.
pub(super) struct Slots {
    errors: Vec<Option<Error>>,
}

impl Slots {
    /// Separates invalid inputs from those to send.
    pub(super) fn split<G>(inputs: impl IntoIterator<Item = Result<G>>) -> (Self, Vec<G>) {
        let mut valid = Vec::new();
        let errors = inputs.into_iter().map(|input| input.map(|input| valid.push(input)).err()).collect();
        (Self { errors }, valid)
    }

    /// Creates the batch: the results of the sent inputs fill the positions without an error.
    pub(super) fn fill<T>(self, results: impl IntoIterator<Item = Result<T>>) -> Batch<T> {
        let mut results = results.into_iter();
        let missing = || Err(Error::corrupt("the store returned fewer results than there were keys"));
        let slot = |error: Option<Error>| match error {
            Some(error) => Err(error),
            None => results.next().unwrap_or_else(missing),
        };
        Batch { results: self.errors.into_iter().map(slot).collect() }
    }
}

/// Sets the key of each error.
pub(super) fn with_keys<'k, T>(
    results: Vec<Result<T>>,
    keys: impl IntoIterator<Item = &'k Key>,
) -> impl Iterator<Item = Result<T>> {
    results.into_iter().zip(keys).map(|(result, key)| result.map_err(|error| error.with_key(key)))
}
