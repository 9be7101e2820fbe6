//! Entries as stored rows, and back.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use kv_core::{Deadline, Entry, Error, Expires, Expiry, Key, Result, Version};
use tokio_postgres::Row;

/// Reads an entry from the columns `value, version, checksum, expires_at`, which begin at the index `first`.
///
/// # Errors
/// `Corrupt` if the row does not match its checksum.
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
    Ok(Entry::new(Bytes::copy_from_slice(value)).with_version(version).with_expires(expiry(expires)))
}

/// Reads the deadline of an entry from the column at this index.
///
/// # Errors
/// `Corrupt` if the column has another type.
pub(crate) fn expires(key: &Key, row: &Row, index: usize) -> Result<Expires> {
    let moment = row.try_get(index);
    let moment = moment.map_err(|_| Error::corrupt("the stored deadline cannot be read").with_key(key))?;
    Ok(expiry(moment).into())
}

fn expiry(moment: Option<SystemTime>) -> Deadline {
    moment.map_or(Deadline::NEVER, deadline)
}

fn deadline(moment: SystemTime) -> Deadline {
    let since = moment.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Deadline::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Returns the CRC-32C of key, version and value. The checksum covers the key, so that a row under a wrong key counts
/// as damaged. The checksum does not cover the deadline, because the server computes the deadline.
pub(crate) fn checksum_of(key: &Key, version: &[u8], value: &[u8]) -> i32 {
    crc32c::crc32c_append(checksum_before(key, version), value).cast_signed()
}

/// Returns the CRC-32C of key and version, which the server extends by the bytes of a counter's new value.
pub(crate) fn checksum_before(key: &Key, version: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(key.as_str().as_bytes()), version)
}

/// A deadline as parameters of a statement: the moment `at`, or the server's current time plus `millis` milliseconds.
/// If both are `None`, the entry never expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lifetime {
    pub(crate) at: Option<SystemTime>,
    pub(crate) millis: Option<i64>,
}

impl Lifetime {
    pub(crate) const NEVER: Self = Self { at: None, millis: None };

    /// A deadline in the past: the entry is expired when it is written.
    pub(crate) const EXPIRED: Self = Self { at: None, millis: Some(-1) };

    /// Converts an expiry. Returns `None` for `Keep`.
    pub(crate) fn new(expiry: Expiry) -> Option<Self> {
        Some(match expiry {
            Expiry::Keep => return None,
            Expiry::After(Duration::ZERO) => Self::EXPIRED,
            Expiry::After(duration) => Self::after(duration),
            Expiry::At(moment) => Self::until(moment),
            _ => Self::NEVER,
        })
    }

    fn after(duration: Duration) -> Self {
        let millis = i64::try_from(duration.as_nanos().div_ceil(1_000_000)).ok();
        // A duration of this length ends after the year 9999. On every backend, such a deadline means never.
        Self { at: None, millis: millis.filter(|millis| *millis < 253_402_300_800_000) }
    }

    /// Converts a moment, rounded up to the microsecond. This is the server's precision. The statement rounds a future
    /// moment up to the millisecond.
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

    /// If the checksum changed, every stored entry would count as damaged.
    #[test]
    fn the_checksum_of_layout_1_does_not_change() {
        let key = Key::new(["a", "b"]).unwrap();
        assert_eq!(checksum_of(&key, b"0123456789abcdef", b"ada"), -1_091_191_051);
    }

    #[test]
    fn a_lifetime_is_rounded_up_and_never_shorter_than_requested() {
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
