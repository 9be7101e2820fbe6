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

    /// Returns the errors in the order of the keys. Each error contains its key, unless the key itself was invalid.
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

/// The positions of a batch in input order, with the errors of the inputs that are not sent to the store.
pub(super) struct Slots {
    errors: Vec<Option<Error>>,
}

impl Slots {
    /// Separates the invalid inputs from the inputs to send.
    pub(super) fn split<G>(inputs: impl IntoIterator<Item = Result<G>>) -> (Self, Vec<G>) {
        let mut valid = Vec::new();
        let errors = inputs.into_iter().map(|input| input.map(|input| valid.push(input)).err()).collect();
        (Self { errors }, valid)
    }

    /// Creates the batch. The positions without an error get the results of the store for the sent `keys`, converted by
    /// `convert`.
    ///
    /// If the store returns more or fewer results than there were keys, every sent key gets an error, because no result
    /// is known to belong to its key.
    pub(super) fn fill<'k, R, T>(
        self,
        keys: impl IntoIterator<Item = &'k Key>,
        results: Vec<Result<R>>,
        convert: impl Fn(&Key, R) -> Result<T>,
    ) -> Batch<T> {
        let sent = self.errors.iter().filter(|error| error.is_none()).count();
        let returned = results.len();
        let mismatch = || Error::defect(format!("the store returned {returned} results for {sent} keys"));
        let (mut keys, mut results) = (keys.into_iter(), results.into_iter().filter(|_| returned == sent));
        let slot = |error: Option<Error>| {
            if let Some(error) = error {
                return Err(error);
            }
            let (key, result) = (keys.next().ok_or_else(mismatch)?, results.next());
            let converted = result.unwrap_or_else(|| Err(mismatch())).and_then(|result| convert(key, result));
            converted.map_err(|error| error.with_key(key))
        };
        Batch { results: self.errors.into_iter().map(slot).collect() }
    }
}
