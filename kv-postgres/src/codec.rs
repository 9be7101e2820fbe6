//! A row and the entry that it stands for, and how a time to live goes to the server.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use kv_core::{Deadline, Entry, Error, Expiry, Key, Result, Version};
use tokio_postgres::Row;

/// Reads the columns `value, version, checksum, expires_at` from `first` on.
///
/// # Errors
/// `Corrupt` where the row does not match its checksum.
pub(crate) fn entry(key: &Key, row: &Row, first: usize) -> Result<Entry> {
    let damaged = || Error::corrupt("the stored value does not match its checksum").with_key(key);
    let value: &[u8] = row.try_get(first).map_err(|_| damaged())?;
    let version: &[u8] = row.try_get(first + 1).map_err(|_| damaged())?;
    let checksum: i32 = row.try_get(first + 2).map_err(|_| damaged())?;
    let expires: Option<SystemTime> = row.try_get(first + 3).map_err(|_| damaged())?;
    if checksum != checksum_of(key, version, value) {
        return Err(damaged());
    }
    let version = Version::from_bytes(version).map_err(|_| damaged())?;
    let deadline = expires.map_or(Deadline::NEVER, deadline);
    Ok(Entry::new(Bytes::copy_from_slice(value)).with_version(version).with_expires(deadline))
}

fn deadline(moment: SystemTime) -> Deadline {
    let since = moment.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Deadline::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// CRC-32C of key, version and value. It covers the key, so that a row that lands under another key is told from one that
/// belongs there. The deadline is the server's to compute and is not covered.
pub(crate) fn checksum_of(key: &Key, version: &[u8], value: &[u8]) -> i32 {
    crc32c::crc32c_append(checksum_before(key, version), value).cast_signed()
}

/// The checksum as it is before the value, for the server to go on with.
pub(crate) fn checksum_before(key: &Key, version: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(key.as_str().as_bytes()), version)
}

/// A deadline as the server computes it: at a moment, or so many milliseconds from its now; never where both are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lifetime {
    pub(crate) at: Option<SystemTime>,
    pub(crate) millis: Option<i64>,
}

impl Lifetime {
    pub(crate) const NEVER: Self = Self { at: None, millis: None };

    /// What is left of nothing: a deadline that has passed when it is set.
    pub(crate) const PASSED: Self = Self { at: None, millis: Some(-1) };

    /// What an expiry means to the server; `None` for `Keep`.
    pub(crate) fn new(expiry: Expiry) -> Option<Self> {
        Some(match expiry {
            Expiry::Keep => return None,
            Expiry::After(Duration::ZERO) => Self::PASSED,
            Expiry::After(duration) => Self::after(duration),
            Expiry::At(moment) => Self::until(moment),
            _ => Self::NEVER,
        })
    }

    fn after(duration: Duration) -> Self {
        let millis = i64::try_from(duration.as_nanos().div_ceil(1_000_000)).ok();
        // What lies behind the year 9999 is never, on every backend.
        Self { at: None, millis: millis.filter(|millis| *millis < 253_402_300_800_000) }
    }

    /// The moment to the microsecond: the server rounds it up to the millisecond, where it has not come yet.
    fn until(moment: SystemTime) -> Self {
        if Deadline::resolve(Expiry::At(moment), SystemTime::UNIX_EPOCH, None) == Deadline::NEVER {
            return Self::NEVER;
        }
        let since = moment.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let micros = u64::try_from(since.as_nanos().div_ceil(1_000)).ok();
        Self { at: micros.map(|micros| SystemTime::UNIX_EPOCH + Duration::from_micros(micros)), millis: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the first layout has; a check that changes makes every stored entry damaged.
    #[test]
    fn the_check_is_that_of_the_first_layout() {
        let key = Key::new(["a", "b"]).unwrap();
        assert_eq!(checksum_of(&key, b"0123456789abcdef", b"ada"), -1_091_191_051);
    }

    #[test]
    fn a_lifetime_is_rounded_up_and_never_shorter_than_asked() {
        let after = |nanos| Lifetime::new(Expiry::After(Duration::from_nanos(nanos))).unwrap().millis;
        assert_eq!((after(1), after(1_000_000), after(1_000_001)), (Some(1), Some(1), Some(2)));
        assert_eq!(after(0), Some(-1));
        assert_eq!(Lifetime::new(Expiry::After(Duration::MAX)), Some(Lifetime::NEVER));
        assert_eq!(Lifetime::new(Expiry::Keep), None);
        let moment = SystemTime::UNIX_EPOCH + Duration::from_nanos(1_500_001);
        let rounded = SystemTime::UNIX_EPOCH + Duration::from_micros(1_501);
        assert_eq!(Lifetime::new(Expiry::At(moment)).unwrap().at, Some(rounded));
        let far = SystemTime::UNIX_EPOCH + Duration::from_secs(300_000_000_000);
        assert_eq!(Lifetime::new(Expiry::At(far)), Some(Lifetime::NEVER));
    }
}
