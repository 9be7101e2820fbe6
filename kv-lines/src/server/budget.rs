//! The limit of the values in one response.

use crate::line::MAX_VALUES_BYTES;

/// The number of bytes that further values may have in a response. Without a limit, a short request that names a large
/// value many times would get a response of any size. A response is one line in memory.
#[derive(Debug)]
pub(super) struct ValueBudget {
    remaining: usize,
    is_empty: bool,
}

impl ValueBudget {
    pub(super) fn new() -> Self {
        Self { remaining: MAX_VALUES_BYTES, is_empty: true }
    }

    /// Reserves bytes for a value. Returns false if the value does not fit. In this case, the remaining budget becomes
    /// zero. The first value always fits.
    pub(super) fn take(&mut self, bytes: usize) -> bool {
        let fits = self.is_empty || bytes <= self.remaining;
        self.is_empty = false;
        self.remaining = if fits { self.remaining.saturating_sub(bytes) } else { 0 };
        fits
    }

    /// True if no further value of one or more bytes fits.
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
