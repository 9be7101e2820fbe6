//! How much goes into one answer.

use kv_core::{Error, Result};
use serde::Serialize;

use crate::line::MAX_VALUES_BYTES;
use crate::shape::Failure;

/// One element of the answer to a batch.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Each<T> {
    Done { result: T },
    Failed { error: Failure },
}

impl<T> Each<T> {
    pub(super) fn of<S>(outcome: Result<S>, show: impl FnOnce(S) -> T) -> Self {
        match outcome {
            Ok(outcome) => Self::Done { result: show(outcome) },
            Err(error) => Self::Failed { error: Failure::from(&error) },
        }
    }

    /// An element that was not done, because what came before it fills the answer.
    pub(super) fn no_room() -> Self {
        let message = format!("the values of one answer have at most {MAX_VALUES_BYTES} bytes: ask for the rest again");
        Self::Failed { error: Failure::from(&Error::capacity(message)) }
    }
}

/// What is left for values. A short request can name the same large value many times, and its answer is written as one line.
#[derive(Debug)]
pub(super) struct Room {
    left: usize,
    is_empty: bool,
}

impl Room {
    pub(super) fn new() -> Self {
        Self { left: MAX_VALUES_BYTES, is_empty: true }
    }

    /// Takes room for a value and tells whether there was some; the first always fits.
    pub(super) fn take(&mut self, bytes: usize) -> bool {
        let fits = self.is_empty || bytes <= self.left;
        self.is_empty = false;
        self.left = if fits { self.left.saturating_sub(bytes) } else { 0 };
        fits
    }

    /// Whether nothing fits any more.
    pub(super) fn is_full(&self) -> bool {
        !self.is_empty && self.left == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_value_fits_and_then_what_there_is_room_for() {
        let mut room = Room::new();
        assert!(!room.is_full() && room.take(MAX_VALUES_BYTES + 1) && room.is_full() && !room.take(1));
        let mut room = Room::new();
        assert!(room.take(1) && room.take(MAX_VALUES_BYTES - 1) && room.is_full());
        let mut room = Room::new();
        assert!(room.take(0) && room.take(2) && !room.take(MAX_VALUES_BYTES) && room.is_full());
    }
}
