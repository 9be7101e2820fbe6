//! Time to live: what a caller asks for, and the deadline that a store keeps.

use std::time::{Duration, SystemTime};

/// How long a written entry lives (clauses S-1, T-1 to T-3). An adapter that does not know a kind answers `Invalid` to it, and
/// never passes it over (clause I-2); [`Deadline::resolve`] knows all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Expiry {
    /// Until it is deleted or overwritten.
    #[default]
    Never,
    /// For this long from the write on. Zero: the entry is absent at once.
    After(Duration),
    /// Until this moment. In the past: the entry is absent at once.
    At(SystemTime),
    /// As long as the entry that it replaces; for ever where there is none.
    Keep,
}

/// The deadline that `touch` gives an entry: [`Expiry`] without `Keep`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum NewExpiry {
    /// Until it is deleted or overwritten.
    #[default]
    Never,
    /// For this long from now on. Zero: the entry is absent at once.
    After(Duration),
    /// Until this moment. In the past: the entry is absent at once.
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

/// When a stored entry expires, as far as the store can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Expires {
    /// Not by time.
    Never,
    /// From this moment on the entry is absent.
    At(SystemTime),
    /// The store cannot tell; only without [`Capabilities::deadlines`](crate::Capabilities::deadlines).
    Unknown,
}

impl Expires {
    /// The time left at `now`, where the entry has a deadline; zero where it has passed.
    pub fn remaining(self, now: SystemTime) -> Option<Duration> {
        match self {
            Self::At(deadline) => Some(deadline.duration_since(now).unwrap_or_default()),
            Self::Never | Self::Unknown => None,
        }
    }
}

/// The deadline of a stored entry: whole milliseconds since the Unix epoch, or never.
///
/// Its order is the order in time, with `NEVER` last. Adapters compute it with the one arithmetic of [`Deadline::resolve`],
/// so that rounding, zero, the past and overflow are the same on every backend (clause T-3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Deadline(u64);

impl Deadline {
    /// No deadline.
    pub const NEVER: Self = Self(u64::MAX);

    /// The last moment that a deadline can name, the end of the year 9999; what lies behind it is never.
    const LAST_MILLIS: u64 = 253_402_300_799_999;

    /// The deadline that `expiry` means for a write at `now` over an entry that has the deadline `current`, where there is
    /// a live one.
    ///
    /// Durations and moments are rounded up to the millisecond, except where nothing is left: zero and the past give a
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

    /// A moment as stored, in milliseconds since the Unix epoch. Behind the year 9999 it is [`Deadline::NEVER`].
    pub fn from_millis(millis: u64) -> Self {
        if millis > Self::LAST_MILLIS { Self::NEVER } else { Self(millis) }
    }

    /// Milliseconds since the Unix epoch, unless it is never.
    pub fn as_millis(self) -> Option<u64> {
        (self != Self::NEVER).then_some(self.0)
    }

    /// Whether an entry with this deadline is absent at `now`.
    pub fn has_passed(self, now: SystemTime) -> bool {
        self != Self::NEVER && self.0 <= floor_millis(now)
    }

    /// Rounds a moment up to the millisecond.
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

/// The expiry that gives a copy the deadline of the original.
impl From<Expires> for Expiry {
    fn from(expires: Expires) -> Self {
        match expires {
            Expires::At(deadline) => Self::At(deadline),
            Expires::Never | Expires::Unknown => Self::Never,
        }
    }
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
        fn an_entry_is_there_for_its_ttl_and_at_most_a_millisecond_longer(now in moment(), nanos in 1..10_000_000_000_u64) {
            let ttl = Duration::from_nanos(nanos);
            let deadline = Deadline::resolve(Expiry::After(ttl), now, None);
            prop_assert!(!deadline.has_passed(now + ttl - Duration::from_nanos(1)));
            prop_assert!(deadline.has_passed(now + ttl + Duration::from_millis(1)));
            prop_assert_eq!(deadline, Deadline::resolve(Expiry::At(now + ttl), now, None));
        }

        #[test]
        fn nothing_left_has_passed_at_once(now in moment(), back in 0..10_000_000_000_u64) {
            prop_assert!(Deadline::resolve(Expiry::After(Duration::ZERO), now, None).has_passed(now));
            let past = now.checked_sub(Duration::from_nanos(back)).unwrap_or(SystemTime::UNIX_EPOCH);
            prop_assert!(Deadline::resolve(Expiry::At(past), now, None).has_passed(now));
        }
    }

    #[test]
    fn what_cannot_be_represented_means_never() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600);
        for ttl in [Duration::MAX, Duration::from_secs(u64::MAX / 1_000), Duration::from_secs(300_000_000_000)] {
            assert_eq!(Deadline::resolve(Expiry::After(ttl), now, None), Deadline::NEVER);
        }
        let century = Deadline::resolve(Expiry::After(Duration::from_secs(3_155_760_000)), now, None);
        assert_ne!(century, Deadline::NEVER);
        assert!(!century.has_passed(now));
    }

    #[test]
    fn keep_takes_the_deadline_that_is_there() {
        let now = SystemTime::UNIX_EPOCH;
        let current = Deadline::from_millis(5);
        assert_eq!(Deadline::resolve(Expiry::Keep, now, Some(current)), current);
        assert_eq!(Deadline::resolve(Expiry::Keep, now, None), Deadline::NEVER);
    }
}
