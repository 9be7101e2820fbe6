//! The error of a commit, and the state that the error leaves.

use crate::error::Error;

/// The error of a commit. The variant decides the error of each write in the transaction.
#[derive(Debug, Clone)]
pub enum CommitError {
    /// The transaction was certainly not applied. Each of its writes is tried again alone, so that a write that cannot
    /// succeed does not fail the others. A write that fails alone gets this error.
    NotApplied(Error),
    /// The transaction may have been applied. Each of its writes gets an `Indeterminate` error, and their keys are
    /// passed to the watchers.
    Unknown(Error),
}

/// `?` on an error in a commit says that the transaction may have been applied, because the opposite would be a wrong
/// promise.
impl From<Error> for CommitError {
    fn from(error: Error) -> Self {
        Self::Unknown(error)
    }
}
