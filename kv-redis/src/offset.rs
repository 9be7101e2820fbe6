//! How far the server's clock is from ours, measured again and again.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// The distance between two clocks, as the best of the measurements tells it.
#[derive(Debug, Default)]
pub(crate) struct Offset(Mutex<Option<Sample>>);

/// The server's time, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Now {
    /// What it most probably is.
    pub(crate) at: SystemTime,
    /// What it is at most: half a round trip later.
    pub(crate) latest: SystemTime,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    /// How much the server's clock is ahead, in nanoseconds.
    ahead: i128,
    /// How far that may be off.
    error: i128,
    taken: SystemTime,
    /// Whether this very server was asked.
    is_own: bool,
}

impl Now {
    /// A moment of a clock that nothing is known to be apart from.
    pub(crate) fn of(at: SystemTime) -> Self {
        Self { at, latest: at }
    }
}

impl Offset {
    /// How much a measurement may age: clocks drift apart by less than this part of the time that passes.
    const DRIFT: i128 = 10_000;

    /// What is known of another server's clock, which holds for this one until it is asked: servers that belong together agree
    /// better with each other than with us.
    pub(crate) fn of_another(other: &Self) -> Self {
        let sample = *other.0.lock().unwrap_or_else(PoisonError::into_inner);
        Self(Mutex::new(sample.map(|sample| {
            let Sample { ahead, error, taken, is_own: _ } = sample;
            Sample { ahead, error, taken, is_own: false }
        })))
    }

    pub(crate) fn is_measured(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|sample| sample.is_own)
    }

    /// What the server said its time was, asked at `sent` and heard at `heard`.
    pub(crate) fn measured(&self, sent: SystemTime, server: SystemTime, heard: SystemTime) {
        // A clock that was set back meanwhile measures nothing.
        let Ok(took) = heard.duration_since(sent) else { return };
        let error = nanos(took) / 2;
        let ahead = since_epoch(server) - since_epoch(sent) - error;
        let mut best = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let replaces = best.filter(|best| best.is_own).is_none_or(|best| {
            let age = heard.duration_since(best.taken).map_or(i128::MAX / Self::DRIFT, nanos);
            let aged = best.error + age / Self::DRIFT;
            // One of the two clocks was set where both cannot be true.
            error <= aged || (ahead - best.ahead).abs() > error + aged + 1_000_000
        });
        if replaces {
            *best = Some(Sample { ahead, error, taken: heard, is_own: true });
        }
    }

    /// The server's time at a moment of ours.
    pub(crate) fn apply(&self, now: SystemTime) -> Now {
        let best = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (ahead, error) = best.map_or((0, 0), |best| (best.ahead, best.error));
        let at = moved(now, ahead);
        Now { at, latest: moved(at, error) }
    }
}

fn moved(moment: SystemTime, by: i128) -> SystemTime {
    let distance = Duration::from_nanos(u64::try_from(by.unsigned_abs()).unwrap_or(u64::MAX));
    let moved = if by < 0 { moment.checked_sub(distance) } else { moment.checked_add(distance) };
    moved.unwrap_or(moment)
}

fn nanos(duration: Duration) -> i128 {
    i128::try_from(duration.as_nanos()).unwrap_or(i128::MAX)
}

fn since_epoch(moment: SystemTime) -> i128 {
    match moment.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => nanos(since),
        Err(before) => -nanos(before.duration()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(1_000_000_000 + millis)
    }

    #[test]
    fn the_servers_time_is_in_the_middle_of_the_round_trip() {
        let offset = Offset::default();
        assert_eq!(offset.apply(at(0)).at, at(0));
        offset.measured(at(0), at(5_001), at(2));
        assert_eq!(offset.apply(at(10)), Now { at: at(5_010), latest: at(5_011) });
        let behind = Offset::default();
        behind.measured(at(7_000), at(2_000), at(7_000));
        assert_eq!(behind.apply(at(8_000)).at, at(3_000));
    }

    #[test]
    fn a_slow_answer_does_not_spoil_a_good_measurement_and_a_clock_that_was_set_is_noticed() {
        let offset = Offset::default();
        offset.measured(at(0), at(0), at(0));
        offset.measured(at(100), at(900), at(1_100));
        assert_eq!(offset.apply(at(2_000)).at, at(2_000));
        offset.measured(at(3_000), at(8_000), at(3_000));
        assert_eq!(offset.apply(at(4_000)).at, at(9_000));
    }

    #[test]
    fn a_server_that_was_not_asked_has_the_time_of_another_until_it_is() {
        let asked = Offset::default();
        asked.measured(at(0), at(5_000), at(0));
        let new = Offset::of_another(&asked);
        assert_eq!(new.apply(at(10)).at, at(5_010));
        assert!(!new.is_measured() && asked.is_measured());
        // Its own answer counts, however long it took.
        new.measured(at(20), at(4_920), at(220));
        assert_eq!(new.apply(at(220)).at, at(5_020));
        assert!(new.is_measured());
    }

    #[test]
    fn old_measurements_give_way() {
        let offset = Offset::default();
        offset.measured(at(0), at(0), at(0));
        offset.measured(at(100_000_000), at(100_000_006), at(100_000_010));
        assert_eq!(offset.apply(at(100_000_010)).at, at(100_000_011));
    }
}
