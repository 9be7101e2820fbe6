//! A row and the entry that it stands for.

use bytes::Bytes;
use kv_core::{Deadline, Entry, Error, Key, Result, Version};
use rusqlite::Row;
use rusqlite::types::ValueRef;

/// A stored entry, whether its deadline has passed or not.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) value: Bytes,
    pub(crate) version: Version,
    pub(crate) deadline: Deadline,
}

impl Stored {
    /// The columns that [`Stored::read`] takes, in its order. The value comes last: what is not read of a row stays in its
    /// overflow pages.
    pub(crate) const COLUMNS: &'static str = "deadline, deadline_check, version, checksum, value";

    /// Reads the columns from `first` on.
    ///
    /// # Errors
    /// `Corrupt` where the row does not match its checks.
    pub(crate) fn read(key: &Key, row: &Row<'_>, first: usize) -> Result<Self> {
        let deadline = read_deadline(key, row, first)?;
        let damaged = || Error::corrupt("the stored value does not match its checksum").with_key(key);
        let (Ok(ValueRef::Blob(version)), Ok(ValueRef::Integer(checksum)), Ok(ValueRef::Blob(value))) =
            (row.get_ref(first + 2), row.get_ref(first + 3), row.get_ref(first + 4))
        else {
            return Err(damaged());
        };
        if checksum != i64::from(checksum_of(key, version, value)) {
            return Err(damaged());
        }
        let version = Version::from_bytes(version).map_err(|_| damaged())?;
        Ok(Self { value: Bytes::copy_from_slice(value), version, deadline })
    }

    pub(crate) fn into_entry(self) -> Entry {
        let Self { value, version, deadline } = self;
        Entry::new(value).with_version(version).with_expires(deadline)
    }
}

/// Reads the two columns `deadline, deadline_check` from `first` on.
///
/// # Errors
/// `Corrupt` where they do not match.
pub(crate) fn read_deadline(key: &Key, row: &Row<'_>, first: usize) -> Result<Deadline> {
    let damaged = || Error::corrupt("the stored deadline does not match its check").with_key(key);
    let deadline = match row.get_ref(first) {
        Ok(ValueRef::Null) => Deadline::NEVER,
        Ok(ValueRef::Integer(millis)) => Deadline::from_millis(u64::try_from(millis).map_err(|_| damaged())?),
        _ => return Err(damaged()),
    };
    match row.get_ref(first + 1) {
        Ok(ValueRef::Integer(check)) if check == i64::from(deadline_check(key, deadline)) => Ok(deadline),
        _ => Err(damaged()),
    }
}

/// The deadline as its column has it. It ends in the year 9999, so it always fits.
pub(crate) fn deadline_column(deadline: Deadline) -> Option<i64> {
    deadline.as_millis().and_then(|millis| i64::try_from(millis).ok())
}

/// CRC-32C of key, version and value. It covers the key, so that a row that lands under another key is told from one that
/// belongs there. As a signed number it takes four bytes in a row; an unsigned one would take six.
pub(crate) fn checksum_of(key: &Key, version: &[u8], value: &[u8]) -> i32 {
    let check = crc32c::crc32c_append(crc32c::crc32c(key.as_str().as_bytes()), version);
    crc32c::crc32c_append(check, value).cast_signed()
}

/// CRC-32C of key and deadline; apart from the value's, so that a deadline moves without reading the value.
pub(crate) fn deadline_check(key: &Key, deadline: Deadline) -> i32 {
    let millis = deadline.as_millis().unwrap_or(u64::MAX).to_be_bytes();
    crc32c::crc32c_append(crc32c::crc32c(key.as_str().as_bytes()), &millis).cast_signed()
}
