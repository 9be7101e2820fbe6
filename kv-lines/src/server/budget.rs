//! Limits the size of one response.

use kv_core::{Error, Result};
use serde::Serialize;

use crate::line::MAX_VALUES_BYTES;
use crate::shape::Failure;

/// The outcome of a request, or of one element of a batch.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Outcome<T> {
    Done { result: T },
    Failed { error: Failure },
}

impl<T> Outcome<T> {
    pub(super) fn of<S>(outcome: Result<S>, show: impl FnOnce(S) -> T) -> Self {
        match outcome {
            Ok(outcome) => Self::Done { result: show(outcome) },
            Err(error) => Self::Failed { error: Failure::from(&error) },
        }
    }

    /// The outcome of an element that was not executed, because the values before it fill the response.
    pub(super) fn over_budget() -> Self {
        let message =
            format!("the values of one response have at most {MAX_VALUES_BYTES} bytes: request the rest again");
        Self::Failed { error: Failure::from(&Error::capacity(message)) }
    }
}

/// The bytes that values may still take in a response. Without this limit a short request that names a large value many
/// times would get a response of any size, which is one line in memory.
#[derive(Debug)]
pub(super) struct ValueBudget {
    remaining: usize,
    is_empty: bool,
}

impl ValueBudget {
    pub(super) fn new() -> Self {
        Self { remaining: MAX_VALUES_BYTES, is_empty: true }
    }

    /// Reserves bytes for a value. Returns false if they do not fit; the first value always fits.
    pub(super) fn take(&mut self, bytes: usize) -> bool {
        let fits = self.is_empty || bytes <= self.remaining;
        self.is_empty = false;
        self.remaining = if fits { self.remaining.saturating_sub(bytes) } else { 0 };
        fits
    }

    /// True if no further value fits.
    pub(super) fn is_spent(&self) -> bool {
        !self.is_empty && self.remaining == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_value_always_fits_and_later_values_fit_up_to_the_limit() {
        let mut budget = ValueBudget::new();
        assert!(!budget.is_spent() && budget.take(MAX_VALUES_BYTES + 1) && budget.is_spent() && !budget.take(1));
        let mut budget = ValueBudget::new();
        assert!(budget.take(1) && budget.take(MAX_VALUES_BYTES - 1) && budget.is_spent());
        let mut budget = ValueBudget::new();
        assert!(budget.take(0) && budget.take(2) && !budget.take(MAX_VALUES_BYTES) && budget.is_spent());
    }
}
