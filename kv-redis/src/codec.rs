//! Entries as stored bytes, and back.

use bytes::Bytes;
use kv_core::{Deadline, Entry, Error, Expires, Expiry, Key, Result, Version, stored};
use redis::Value;
use serde::{Deserialize, Serialize};

use crate::config::MAX_VALUE_BYTES;
use crate::server::clock_offset::ServerTime;

/// The format of stored entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Format {
    /// A header with the version, the deadline and a checksum, then the value. This format has every capability.
    #[default]
    Entry,
    /// The bare value, which other programs can read and write too. This format has no versions.
    Plain,
}

/// The deadline of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WriteDeadline {
    Never,
    At(u64),
    /// The deadline of the current entry.
    Keep,
    /// A deadline that has already passed, so the write removes the entry.
    Expired,
}

impl WriteDeadline {
    /// Returns the deadline of a write that reaches the server at `now`.
    pub(crate) fn resolve(expiry: Expiry, now: ServerTime) -> Self {
        let ServerTime { at: now, latest } = now;
        match expiry {
            Expiry::Keep => return Self::Keep,
            // The server's clock may already be at `latest`. Therefore a deadline up to `latest` counts as expired, and
            // an entry whose deadline is the caller's current time always expires at once.
            Expiry::At(moment) if moment <= latest => return Self::Expired,
            _ => {}
        }
        let deadline = Deadline::resolve(expiry, now, None);
        match deadline.as_millis() {
            None => Self::Never,
            Some(_) if deadline.has_passed(now) => Self::Expired,
            Some(millis) => Self::At(millis),
        }
    }

    /// Returns the deadline for the header of the stored entry. For `Keep`, the script copies the fields of the current
    /// entry.
    pub(crate) fn stored(self) -> Deadline {
        match self {
            Self::At(millis) => Deadline::from_millis(millis),
            Self::Never | Self::Keep | Self::Expired => Deadline::NEVER,
        }
    }

    /// Returns the deadline as an argument of a script.
    pub(crate) fn to_argument(self) -> String {
        match self {
            Self::Never => "never".to_owned(),
            Self::Keep => "keep".to_owned(),
            Self::Expired => "expired".to_owned(),
            Self::At(millis) => millis.to_string(),
        }
    }
}

impl Format {
    /// Returns the maximum number of bytes of one value in a reply. This is the length of the longest value that any
    /// store accepts or, in plain format, of the longest string that a server accepts, plus a margin for the header.
    pub(crate) fn max_reply_bytes(self) -> u64 {
        const MARGIN: u64 = 1 << 20;
        match self {
            Self::Entry => MAX_VALUE_BYTES + MARGIN,
            Self::Plain => (512 << 20) + MARGIN,
        }
    }

    /// Returns the stored bytes of an entry.
    pub(crate) fn encode(self, key: &Key, version: &Version, deadline: WriteDeadline, value: &[u8]) -> Vec<u8> {
        match self {
            Self::Entry => stored::encode(key, version, deadline.stored(), value),
            Self::Plain => value.to_vec(),
        }
    }

    /// Decodes a reply: the stored bytes, or the value and the deadline in plain format. The reply is `Nil` if there is
    /// no entry, and an integer of a script for a value of another type.
    pub(crate) fn decode(self, key: &Key, reply: Value) -> Result<Option<Entry>> {
        match (self, reply) {
            (_, Value::Nil) => Ok(None),
            (Self::Entry, Value::BulkString(bytes)) => Ok(Some(stored::decode(key, Bytes::from(bytes))?.0)),
            (Self::Plain, Value::Array(parts)) => decode_plain(parts).map(Some),
            (_, Value::Int(_)) => Err(Error::corrupt("a foreign value of another type is stored under the key")),
            _ => Err(Error::corrupt("the server's reply is not an entry")),
        }
    }
}

fn decode_plain(parts: Vec<Value>) -> Result<Entry> {
    match <[Value; 2]>::try_from(parts) {
        Ok([Value::BulkString(value), Value::Int(millis)]) => {
            let deadline = u64::try_from(millis).map_or(Deadline::NEVER, Deadline::from_millis);
            Ok(Entry::new(value).with_expires(Expires::from(deadline)))
        }
        _ => Err(Error::corrupt("the server's reply is not an entry")),
    }
}

/// Returns the version field of a header, which the scripts compare byte by byte: the length, then 16 bytes.
pub(crate) fn version_field(version: &Version) -> Vec<u8> {
    let mut field = vec![0; 17];
    let bytes = version.as_bytes();
    if let Some((length, content)) = field.split_first_mut() {
        // The conversion cannot fail, because a version has at most 16 bytes.
        *length = u8::try_from(bytes.len()).unwrap_or_default();
        content.iter_mut().zip(bytes).for_each(|(target, byte)| *target = *byte);
    }
    field
}

/// Returns the deadline of an entry if its stored bytes have this version field; `None` if they have another.
///
/// # Errors
/// `Corrupt` if the deadline is damaged.
pub(crate) fn known_expiry(key: &Key, version_field: &[u8], stored: &[u8]) -> Result<Option<Expires>> {
    if stored.get(13..30) != Some(version_field) {
        return Ok(None);
    }
    Ok(Some(stored::deadline(key, stored)?.into()))
}

/// Returns the fields of a header that hold the deadline and the checksum of the deadline.
pub(crate) fn deadline_fields(key: &Key, deadline: WriteDeadline) -> Vec<u8> {
    let header = stored::encode(key, &Version::random(), deadline.stored(), &[]);
    header.get(1..13).map(<[u8]>::to_vec).unwrap_or_default()
}

/// Returns the state of the checksum after the key and the version. The increment script continues this state with the
/// new value.
pub(crate) fn checksum_state(key: &Key, version: &Version) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(key.as_str().as_bytes()), &version_field(version))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    fn key() -> Key {
        Key::new(["a", "b"]).unwrap()
    }

    /// The scripts use these offsets. If kv-core changes the header, the scripts must change too.
    #[test]
    fn the_header_has_the_offsets_of_the_scripts() {
        let version = Version::random();
        let stored = stored::encode(&key(), &version, Deadline::from_millis(7), b"12");
        assert_eq!(stored::HEADER_BYTES, 34);
        assert_eq!(stored[0], 161);
        assert_eq!(stored[1..13], deadline_fields(&key(), WriteDeadline::At(7)));
        assert_eq!(stored[13..30], version_field(&version));
        let checksum = crc32c::crc32c_append(checksum_state(&key(), &version), b"12");
        assert_eq!(stored[30..34], checksum.to_be_bytes());
    }

    #[test]
    fn a_foreign_reply_is_corrupt() {
        for reply in [Value::Okay, Value::Int(1), Value::BulkString(b"foreign".to_vec()), Value::Array(vec![])] {
            let kind = Format::Entry.decode(&key(), reply.clone()).unwrap_err().kind();
            assert_eq!(kind, kv_core::ErrorKind::Corrupt);
        }
        assert!(Format::Plain.decode(&key(), Value::Array(vec![Value::Int(1)])).is_err());
    }

    #[test]
    fn a_plain_entry_has_value_and_deadline() {
        let reply = |millis| Value::Array(vec![Value::BulkString(b"v".to_vec()), Value::Int(millis)]);
        let entry = Format::Plain.decode(&key(), reply(-1)).unwrap().unwrap();
        assert_eq!((entry.value.as_ref(), entry.version, entry.expires), (b"v".as_ref(), None, Expires::Never));
        let entry = Format::Plain.decode(&key(), reply(5)).unwrap().unwrap();
        assert_eq!(entry.expires, Expires::At(SystemTime::UNIX_EPOCH + Duration::from_millis(5)));
    }

    #[test]
    fn a_passed_deadline_is_expired_and_an_unrepresentable_deadline_is_never() {
        let second = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
        let now = ServerTime { at: second, latest: second + Duration::from_millis(2) };
        assert_eq!(WriteDeadline::resolve(Expiry::At(now.latest), now), WriteDeadline::Expired);
        assert_eq!(WriteDeadline::resolve(Expiry::After(Duration::ZERO), now), WriteDeadline::Expired);
        assert_eq!(WriteDeadline::resolve(Expiry::At(SystemTime::UNIX_EPOCH), now), WriteDeadline::Expired);
        assert_eq!(WriteDeadline::resolve(Expiry::After(Duration::MAX), now), WriteDeadline::Never);
        assert_eq!(WriteDeadline::resolve(Expiry::After(Duration::from_millis(5)), now), WriteDeadline::At(1_005));
    }
}
