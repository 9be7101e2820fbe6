//! Moments on a clock that is never set and never stops.

use std::time::Duration;

/// A moment on the monotonic clock of this machine.
///
/// On Linux the clock also counts the time in which the process was stopped or the machine slept, so that whoever wakes
/// up sees how old a moment is. On other systems it may not count the time in which the machine slept.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use kv_core::Moment;
///
/// let start = Moment::now();
/// assert!(start.elapsed() < Duration::from_secs(60));
/// assert_eq!(start.since(Moment::now()), Duration::ZERO);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(Duration);

impl Moment {
    /// Returns the current moment.
    pub fn now() -> Self {
        Self(since_start())
    }

    /// Returns the time that has passed since this moment.
    pub fn elapsed(self) -> Duration {
        Self::now().since(self)
    }

    /// Returns the time between an earlier moment and this moment; zero if the other moment is not earlier.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// The time since the machine was started.
#[cfg(target_os = "linux")]
fn since_start() -> Duration {
    let rustix::time::Timespec { tv_sec, tv_nsec } = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(u64::try_from(tv_sec).unwrap_or_default(), u32::try_from(tv_nsec).unwrap_or_default())
}

/// The time since the first call.
#[cfg(not(target_os = "linux"))]
#[expect(clippy::disallowed_methods, reason = "the only place that reads the monotonic clock")]
fn since_start() -> Duration {
    static START: std::sync::LazyLock<std::time::Instant> = std::sync::LazyLock::new(std::time::Instant::now);
    START.elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_moments_are_later() {
        let moments: Vec<_> = (0..1_000).map(|_| Moment::now()).collect();
        assert!(moments.is_sorted());
        assert!(moments[0].elapsed() >= moments[999].since(moments[0]));
    }
}
