//! What came of a call over several keys.

use crate::error::{Error, Result};
use crate::key::Key;

/// One result a key, in the order in which the keys were given: each can fail for itself (clause B-1).
#[derive(Debug)]
#[must_use = "each key of a batch can fail for itself: `.all()?` gives the values or the first error"]
pub struct Batch<T> {
    results: Vec<Result<T>>,
}

impl<T> Batch<T> {
    /// Every value, or the first error; it names its key.
    ///
    /// # Errors
    /// The first in the order of the keys.
    pub fn all(self) -> Result<Vec<T>> {
        self.results.into_iter().collect()
    }

    /// The errors, in the order of the keys; each names its key, unless that itself was bad.
    pub fn errors(&self) -> impl Iterator<Item = &Error> {
        self.results.iter().filter_map(|result| result.as_ref().err())
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.results.len()
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.results.is_empty()
    }
}

/// One result a key.
impl<T> IntoIterator for Batch<T> {
    type Item = Result<T>;
    type IntoIter = std::vec::IntoIter<Result<T>>;

    fn into_iter(self) -> Self::IntoIter {
        self.results.into_iter()
    }
}

/// The places of a batch, with the errors of those that were never sent.
pub(super) struct Plan {
    bad: Vec<Option<Error>>,
}

impl Plan {
    /// Sets the bad ones aside; what is to be sent stands in the list.
    pub(super) fn of<G>(given: impl IntoIterator<Item = Result<G>>) -> (Self, Vec<G>) {
        let mut good = Vec::new();
        let bad = given.into_iter().map(|one| one.map(|one| good.push(one)).err()).collect();
        (Self { bad }, good)
    }

    /// The batch, with the results of what was sent in the places that are not bad.
    pub(super) fn fill<T>(self, sent: impl IntoIterator<Item = Result<T>>) -> Batch<T> {
        let mut sent = sent.into_iter();
        let short = || Err(Error::corrupt("the store gave fewer results than there were keys"));
        let place = |bad: Option<Error>| match bad {
            Some(error) => Err(error),
            None => sent.next().unwrap_or_else(short),
        };
        Batch { results: self.bad.into_iter().map(place).collect() }
    }
}

/// Names the key of each error.
pub(super) fn named<'k, T>(
    results: Vec<Result<T>>,
    keys: impl IntoIterator<Item = &'k Key>,
) -> impl Iterator<Item = Result<T>> {
    results.into_iter().zip(keys).map(|(result, key)| result.map_err(|error| error.with_key(key)))
}
