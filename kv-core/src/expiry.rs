//! Time to live: the expiry that a caller asks for, and the deadline that a store keeps.

use std::time::{Duration, SystemTime};

use crate::error::{Error, Result};

/// The expiry of a written entry (clauses S-1, T-1 to T-3). An adapter refuses an unknown variant with `Invalid` and
/// never ignores it (clause I-2). [`Deadline::resolve`] handles all variants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Expiry {
    /// The entry lives until it is deleted or overwritten.
    #[default]
    Never,
    /// The entry lives for this long after the write. If the duration is zero, the entry is absent at once.
    After(Duration),
    /// The entry lives until this time. If the time has passed, the entry is absent at once.
    At(SystemTime),
    /// The entry takes over the deadline of the live entry that it replaces. If there is no live entry, the new entry
    /// never expires.
    Keep,
}

/// The new expiry that `touch` gives an entry: [`Expiry`] without `Keep`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum NewExpiry {
    /// The entry lives until it is deleted or overwritten.
    #[default]
    Never,
    /// The entry lives for this long from now. If the duration is zero, the entry is absent at once.
    After(Duration),
    /// The entry lives until this time. If the time has passed, the entry is absent at once.
    At(SystemTime),
}

impl From<NewExpiry> for Expiry {
    fn from(expiry: NewExpiry) -> Self {
        match expiry {
            NewExpiry::Never => Self::Never,
            NewExpiry::After(duration) => Self::After(duration),
            NewExpiry::At(moment) => Self::At(moment),
        }
    }
}

/// The expiry of a stored entry, if the store returns deadlines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Expires {
    /// The entry does not expire.
    Never,
    /// The entry is absent from this time on.
    At(SystemTime),
    /// The store does not return deadlines. This happens only in stores without
    /// [`Capabilities::deadlines`](crate::Capabilities::deadlines).
    Unknown,
}

impl Expires {
    /// Returns the time left at `now`, or zero after the deadline. Returns `None` for an entry without a known
    /// deadline.
    pub fn remaining(self, now: SystemTime) -> Option<Duration> {
        match self {
            Self::At(deadline) => Some(deadline.duration_since(now).unwrap_or_default()),
            Self::Never | Self::Unknown => None,
        }
    }
}

/// The deadline of a stored entry: whole milliseconds since the Unix epoch, or never.
///
/// Deadlines are ordered by time, with `NEVER` last. Adapters compute them with [`Deadline::resolve`], so that
/// rounding, zero, past times and overflow are the same on every backend (clause T-3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Deadline(u64);

impl Deadline {
    /// No deadline.
    pub const NEVER: Self = Self(u64::MAX);

    /// The last representable deadline: the end of the year 9999. A later deadline becomes `NEVER`.
    const LAST_MILLIS: u64 = 253_402_300_799_999;

    /// Returns the deadline of a write at `now` with this expiry. `current` is the deadline of the live entry that the
    /// write replaces, if there is one.
    ///
    /// Durations and times are rounded up to whole milliseconds. Zero and past times are the exception: they give a
    /// deadline that has passed at `now`.
    pub fn resolve(expiry: Expiry, now: SystemTime, current: Option<Self>) -> Self {
        match expiry {
            Expiry::Never => Self::NEVER,
            Expiry::Keep => current.unwrap_or(Self::NEVER),
            Expiry::After(Duration::ZERO) => Self::from_millis(floor_millis(now)),
            Expiry::After(duration) => now.checked_add(duration).map_or(Self::NEVER, Self::at),
            Expiry::At(moment) if moment <= now => Self::from_millis(floor_millis(now)),
            Expiry::At(moment) => Self::at(moment),
        }
    }

    /// Converts from milliseconds since the Unix epoch. A time after the year 9999 becomes [`Deadline::NEVER`].
    pub fn from_millis(millis: u64) -> Self {
        if millis > Self::LAST_MILLIS { Self::NEVER } else { Self(millis) }
    }

    /// Returns the milliseconds since the Unix epoch, or `None` for never.
    pub fn as_millis(self) -> Option<u64> {
        (self != Self::NEVER).then_some(self.0)
    }

    /// True if an entry with this deadline is absent at `now`.
    pub fn has_passed(self, now: SystemTime) -> bool {
        self != Self::NEVER && self.0 <= floor_millis(now)
    }

    /// Rounds a time up to whole milliseconds.
    fn at(moment: SystemTime) -> Self {
        let since = moment.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self::from_millis(u64::try_from(since.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX))
    }
}

impl From<Deadline> for Expires {
    fn from(deadline: Deadline) -> Self {
        match deadline.as_millis() {
            Some(millis) => Self::At(SystemTime::UNIX_EPOCH + Duration::from_millis(millis)),
            None => Self::Never,
        }
    }
}

/// Converts to the expiry that gives a copy of an entry the same deadline. `Unknown` becomes `Never`.
impl From<Expires> for Expiry {
    fn from(expires: Expires) -> Self {
        match expires {
            Expires::At(deadline) => Self::At(deadline),
            Expires::Never | Expires::Unknown => Self::Never,
        }
    }
}

/// Parses a time to live such as `5m` or `7days 30min`.
pub(crate) fn parse_ttl(text: &str) -> Result<Duration> {
    humantime::parse_duration(text).map_err(|_| Error::invalid("expected a duration such as `5m` or `1day 2h`"))
}

fn floor_millis(moment: SystemTime) -> u64 {
    let since = moment.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn moment() -> impl Strategy<Value = SystemTime> {
        (0..=4_000_000_000_u64, 0..1_000_000_000_u32)
            .prop_map(|(seconds, nanos)| SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos))
    }

    proptest! {
        #[test]
        fn an_entry_lives_for_its_ttl_and_at_most_a_millisecond_longer(now in moment(), nanos in 1..10_000_000_000_u64) {
            let ttl = Duration::from_nanos(nanos);
            let deadline = Deadline::resolve(Expiry::After(ttl), now, None);
            prop_assert!(!deadline.has_passed(now + ttl - Duration::from_nanos(1)));
            prop_assert!(deadline.has_passed(now + ttl + Duration::from_millis(1)));
            prop_assert_eq!(deadline, Deadline::resolve(Expiry::At(now + ttl), now, None));
        }

        #[test]
        fn zero_and_past_times_have_passed_at_once(now in moment(), back in 0..10_000_000_000_u64) {
            prop_assert!(Deadline::resolve(Expiry::After(Duration::ZERO), now, None).has_passed(now));
            let past = now.checked_sub(Duration::from_nanos(back)).unwrap_or(SystemTime::UNIX_EPOCH);
            prop_assert!(Deadline::resolve(Expiry::At(past), now, None).has_passed(now));
        }
    }

    #[test]
    fn a_deadline_that_cannot_be_represented_means_never() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600);
        for ttl in [Duration::MAX, Duration::from_secs(u64::MAX / 1_000), Duration::from_secs(300_000_000_000)] {
            assert_eq!(Deadline::resolve(Expiry::After(ttl), now, None), Deadline::NEVER);
        }
        let century = Deadline::resolve(Expiry::After(Duration::from_secs(3_155_760_000)), now, None);
        assert_ne!(century, Deadline::NEVER);
        assert!(!century.has_passed(now));
    }

    #[test]
    fn keep_takes_over_the_current_deadline() {
        let now = SystemTime::UNIX_EPOCH;
        let current = Deadline::from_millis(5);
        assert_eq!(Deadline::resolve(Expiry::Keep, now, Some(current)), current);
        assert_eq!(Deadline::resolve(Expiry::Keep, now, None), Deadline::NEVER);
    }
}
