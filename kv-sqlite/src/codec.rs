//! Entries as stored rows, and back.

use bytes::Bytes;
use kv_core::{Deadline, Entry, Error, Key, Result, Version};
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, ValueRef};
use rusqlite::{Row, ToSql};

/// A stored entry, live or expired.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) value: Bytes,
    pub(crate) version: Version,
    pub(crate) deadline: Deadline,
}

impl Stored {
    /// The columns that [`Stored::read`] reads, in this order. The value is either in the row or in the table of large
    /// values.
    pub(crate) const COLUMNS: &'static str =
        "row.deadline, row.deadline_check, row.version, row.checksum, row.value, beside.value";

    /// Reads [`Stored::COLUMNS`]; `first` is the index of the first of these columns in the row.
    ///
    /// # Errors
    /// `Corrupt` if the row does not match its checksums.
    pub(crate) fn read(key: &Key, row: &Row<'_>, first: usize) -> Result<Self> {
        let key_check = crc32c::crc32c(key.as_str().as_bytes());
        let deadline = checked_deadline(key, key_check, row, first)?;
        let damaged = || Error::corrupt("the stored value does not match its checksum").with_key(key);
        let (Ok(ValueRef::Blob(version)), Ok(ValueRef::Integer(checksum))) =
            (row.get_ref(first + 2), row.get_ref(first + 3))
        else {
            return Err(damaged());
        };
        let ((Ok(ValueRef::Blob(value)), Ok(ValueRef::Null)) | (Ok(ValueRef::Null), Ok(ValueRef::Blob(value)))) =
            (row.get_ref(first + 4), row.get_ref(first + 5))
        else {
            return Err(damaged());
        };
        if checksum != i64::from(value_check(key_check, version, value)) {
            return Err(damaged());
        }
        let version = Version::from_bytes(version).map_err(|_| damaged())?;
        Ok(Self { value: Bytes::copy_from_slice(value), version, deadline })
    }

    /// Returns the length of the value in bytes. `first` is the index of the first of [`Stored::COLUMNS`] in the row.
    pub(crate) fn length(row: &Row<'_>, first: usize) -> usize {
        let length = |column| row.get_ref(column).ok().and_then(|value| value.as_blob().ok()).map_or(0, <[u8]>::len);
        length(first + 4) + length(first + 5)
    }

    /// True if the value is stored in the row, and false if it is stored in the table of large values.
    ///
    /// SQLite stores the end of a row that is larger than about a quarter of a page in a separate overflow page, and
    /// wastes the rest of that page. Large rows also mean fewer rows per page. Then the tree is deeper for every read.
    pub(crate) fn fits_row(key: &Key, value: &[u8]) -> bool {
        key.as_str().len() + value.len() <= 640
    }

    pub(crate) fn into_entry(self) -> Entry {
        let Self { value, version, deadline } = self;
        Entry::new(value).with_version(version).with_expires(deadline)
    }
}

/// The bytes of a text in SQLite, which may be invalid UTF-8 if the row is damaged or foreign.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct RawText(Vec<u8>);

impl RawText {
    pub(crate) fn new(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }

    /// Returns the key; `None` if this is not the canonical text of a key.
    pub(crate) fn to_key(&self) -> Option<Key> {
        std::str::from_utf8(&self.0).ok().and_then(|text| Key::parse_stored(text).ok())
    }
}

impl ToSql for RawText {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Text(&self.0)))
    }
}

impl FromSql for RawText {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        match value {
            ValueRef::Text(text) => Ok(Self(text.to_vec())),
            _ => Err(FromSqlError::InvalidType),
        }
    }
}

/// Reads the columns `deadline, deadline_check`; `first` is the index of the first of them in the row.
///
/// # Errors
/// `Corrupt` if the deadline does not match its checksum.
pub(crate) fn read_deadline(key: &Key, row: &Row<'_>, first: usize) -> Result<Deadline> {
    checked_deadline(key, crc32c::crc32c(key.as_str().as_bytes()), row, first)
}

fn checked_deadline(key: &Key, key_check: u32, row: &Row<'_>, first: usize) -> Result<Deadline> {
    let damaged = || Error::corrupt("the stored deadline does not match its checksum").with_key(key);
    let deadline = match row.get_ref(first) {
        Ok(ValueRef::Null) => Deadline::NEVER,
        Ok(ValueRef::Integer(millis)) => Deadline::from_millis(u64::try_from(millis).map_err(|_| damaged())?),
        _ => return Err(damaged()),
    };
    match row.get_ref(first + 1) {
        Ok(ValueRef::Integer(check)) if check == i64::from(millis_check(key_check, deadline)) => Ok(deadline),
        _ => Err(damaged()),
    }
}

/// Returns the value of the column `deadline`. A deadline always fits into the column, because the latest deadline is
/// in the year 9999.
pub(crate) fn deadline_column(deadline: Deadline) -> Option<i64> {
    deadline.as_millis().and_then(|millis| i64::try_from(millis).ok())
}

/// Returns the CRC-32C of key, version and value.
///
/// The checksum covers the key, so that a row that is stored under a wrong key is detected. The result is signed,
/// because SQLite stores a signed 32-bit number in four bytes and an unsigned 32-bit number in six bytes.
pub(crate) fn checksum_of(key: &Key, version: &[u8], value: &[u8]) -> i32 {
    value_check(crc32c::crc32c(key.as_str().as_bytes()), version, value)
}

/// Returns the CRC-32C of key and deadline. This checksum is separate from the checksum of the value, so that a touch
/// need not read the value.
pub(crate) fn deadline_check(key: &Key, deadline: Deadline) -> i32 {
    millis_check(crc32c::crc32c(key.as_str().as_bytes()), deadline)
}

fn value_check(key_check: u32, version: &[u8], value: &[u8]) -> i32 {
    crc32c::crc32c_append(crc32c::crc32c_append(key_check, version), value).cast_signed()
}

fn millis_check(key_check: u32, deadline: Deadline) -> i32 {
    let millis = deadline.as_millis().unwrap_or(u64::MAX).to_be_bytes();
    crc32c::crc32c_append(key_check, &millis).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// If the checksums changed, every entry of an existing file would be reported as damaged.
    #[test]
    fn the_checksums_are_those_of_the_first_layout() {
        let key = Key::new(["a", "b"]).unwrap();
        assert_eq!(checksum_of(&key, b"0123456789abcdef", b"ada"), -1_091_191_051);
        assert_eq!(deadline_check(&key, Deadline::from_millis(1_767_225_600_000)), 0xE53E_EC70_u32.cast_signed());
        assert_eq!(deadline_check(&key, Deadline::NEVER), -1_581_931_146);
    }

    #[test]
    fn a_checksum_covers_every_field() {
        let (key, other) = (Key::new(["a"]).unwrap(), Key::new(["b"]).unwrap());
        let check = checksum_of(&key, b"v", b"value");
        for changed in
            [checksum_of(&other, b"v", b"value"), checksum_of(&key, b"w", b"value"), checksum_of(&key, b"v", b"valuf")]
        {
            assert_ne!(check, changed);
        }
        let check = deadline_check(&key, Deadline::from_millis(5));
        assert_ne!(check, deadline_check(&key, Deadline::from_millis(6)));
        assert_ne!(check, deadline_check(&other, Deadline::from_millis(5)));
        assert_ne!(check, deadline_check(&key, Deadline::NEVER));
    }
}
