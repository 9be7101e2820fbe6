//! The offset between the server's clock and our clock, measured again with every heartbeat.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// The offset between two clocks: the most exact measurement so far. A measurement becomes less exact with its age.
#[derive(Debug, Default)]
pub(crate) struct ClockOffset(Mutex<Option<Sample>>);

/// An estimate of the server's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ServerTime {
    /// The most probable time.
    pub(crate) at: SystemTime,
    /// The latest possible time: half of the measured round trip after `at`.
    pub(crate) latest: SystemTime,
}

/// A measurement of the offset.
#[derive(Debug, Clone, Copy)]
struct Sample {
    /// The number of nanoseconds by which the server's clock is ahead of our clock.
    ahead: i128,
    /// The largest possible error of `ahead`, in nanoseconds.
    error: i128,
    /// The time of the measurement by our clock.
    taken_at: SystemTime,
    /// True if this server was measured; false if the sample was copied from another server.
    is_own: bool,
}

impl ServerTime {
    /// Returns the time of a server whose offset is unknown: the time of our clock, as if it were exact.
    pub(crate) fn unmeasured(at: SystemTime) -> Self {
        Self { at, latest: at }
    }
}

impl ClockOffset {
    /// The largest assumed drift between the clocks, as a divisor: 1/10,000 of the elapsed time.
    const DRIFT_DIVISOR: i128 = 10_000;

    /// Returns the offset of another server, to use until this server is measured. This offset is a good estimate,
    /// because the clocks of the servers of a cluster differ less from each other than from our clock.
    pub(crate) fn borrowed_from(other: &Self) -> Self {
        let sample = *other.0.lock().unwrap_or_else(PoisonError::into_inner);
        Self(Mutex::new(sample.map(|sample| {
            let Sample { ahead, error, taken_at, is_own: _ } = sample;
            Sample { ahead, error, taken_at, is_own: false }
        })))
    }

    /// True if this server was measured.
    pub(crate) fn is_measured(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|sample| sample.is_own)
    }

    /// Records a measurement: the server replied with the time `server` to a request that was sent at `sent_at`, and
    /// the reply was received at `received_at`. The measurement is dropped if an earlier measurement is more exact.
    pub(crate) fn record(&self, sent_at: SystemTime, server: SystemTime, received_at: SystemTime) {
        // Our clock was set back during the round trip, so the measurement is useless.
        let Ok(round_trip) = received_at.duration_since(sent_at) else { return };
        let error = nanos(round_trip) / 2;
        let ahead = since_epoch(server) - since_epoch(sent_at) - error;
        let mut best = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let replaces = best.filter(|best| best.is_own).is_none_or(|best| {
            let age = received_at.duration_since(best.taken_at).map_or(i128::MAX / Self::DRIFT_DIVISOR, nanos);
            let aged_error = best.error + age / Self::DRIFT_DIVISOR;
            // If the measurements differ by more than their errors and a millisecond, one of the clocks was set. In
            // this case the new measurement counts, even if it is less exact.
            error <= aged_error || (ahead - best.ahead).abs() > error + aged_error + 1_000_000
        });
        if replaces {
            *best = Some(Sample { ahead, error, taken_at: received_at, is_own: true });
        }
    }

    /// Returns the server's time at the time `now` of our clock.
    pub(crate) fn server_time_at(&self, now: SystemTime) -> ServerTime {
        let best = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (ahead, error) = best.map_or((0, 0), |best| (best.ahead, best.error));
        let at = moved(now, ahead);
        ServerTime { at, latest: moved(at, error) }
    }
}

/// Returns a time that is later by `by` nanoseconds, or earlier if `by` is negative.
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
    fn the_servers_time_was_read_at_the_middle_of_the_round_trip() {
        let offset = ClockOffset::default();
        assert_eq!(offset.server_time_at(at(0)).at, at(0));
        offset.record(at(0), at(5_001), at(2));
        assert_eq!(offset.server_time_at(at(10)), ServerTime { at: at(5_010), latest: at(5_011) });
        let behind = ClockOffset::default();
        behind.record(at(7_000), at(2_000), at(7_000));
        assert_eq!(behind.server_time_at(at(8_000)).at, at(3_000));
    }

    #[test]
    fn a_slow_measurement_does_not_replace_an_exact_measurement_unless_a_clock_was_set() {
        let offset = ClockOffset::default();
        offset.record(at(0), at(0), at(0));
        offset.record(at(100), at(900), at(1_100));
        assert_eq!(offset.server_time_at(at(2_000)).at, at(2_000));
        offset.record(at(3_000), at(8_000), at(3_000));
        assert_eq!(offset.server_time_at(at(4_000)).at, at(9_000));
    }

    #[test]
    fn an_unmeasured_server_uses_the_offset_of_another_server() {
        let measured = ClockOffset::default();
        measured.record(at(0), at(5_000), at(0));
        let new = ClockOffset::borrowed_from(&measured);
        assert_eq!(new.server_time_at(at(10)).at, at(5_010));
        assert!(!new.is_measured() && measured.is_measured());
        // The server's own measurement replaces the borrowed offset, however long the round trip was.
        new.record(at(20), at(4_920), at(220));
        assert_eq!(new.server_time_at(at(220)).at, at(5_020));
        assert!(new.is_measured());
    }

    #[test]
    fn a_less_exact_measurement_replaces_a_much_older_measurement() {
        let offset = ClockOffset::default();
        offset.record(at(0), at(0), at(0));
        offset.record(at(100_000_000), at(100_000_006), at(100_000_010));
        assert_eq!(offset.server_time_at(at(100_000_010)).at, at(100_000_011));
    }
}
