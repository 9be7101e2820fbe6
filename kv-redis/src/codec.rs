//! Values as they are stored, in either format.

use bytes::Bytes;
use kv_core::{Deadline, Entry, Error, Expires, Expiry, Key, Result, Version, stored};
use redis::Value;
use serde::{Deserialize, Serialize};

use crate::offset::Now;

/// How an entry is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Format {
    /// With a header that carries version, deadline and checksum: every capability.
    #[default]
    Entry,
    /// The bare value, which other programs read and write too: without versions.
    Plain,
}

/// The deadline of a write as scripts take it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    Never,
    At(u64),
    /// That of the entry which is there.
    Keep,
    /// It has passed already.
    Gone,
}

impl Until {
    /// What an expiry means for a write at `now`, by the server's clock.
    pub(crate) fn resolve(expiry: Expiry, now: Now) -> Self {
        let Now { at: now, latest } = now;
        match expiry {
            Expiry::Keep => return Self::Keep,
            // A moment that may have come is taken to have come: it was the present of somebody.
            Expiry::At(moment) if moment <= latest => return Self::Gone,
            _ => {}
        }
        let deadline = Deadline::resolve(expiry, now, None);
        match deadline.as_millis() {
            None => Self::Never,
            Some(_) if deadline.has_passed(now) => Self::Gone,
            Some(millis) => Self::At(millis),
        }
    }

    pub(crate) fn deadline(self) -> Deadline {
        match self {
            Self::At(millis) => Deadline::from_millis(millis),
            Self::Never | Self::Keep | Self::Gone => Deadline::NEVER,
        }
    }

    pub(crate) fn text(self) -> String {
        match self {
            Self::Never => "never".to_owned(),
            Self::Keep => "keep".to_owned(),
            Self::Gone => "gone".to_owned(),
            Self::At(millis) => millis.to_string(),
        }
    }
}

impl Format {
    pub(crate) fn encode(self, key: &Key, version: &Version, until: Until, value: &[u8]) -> Vec<u8> {
        match self {
            Self::Entry => stored::encode(key, version, until.deadline(), value),
            Self::Plain => value.to_vec(),
        }
    }

    /// The entry that a reply stands for: the stored bytes, or value and deadline in plain format; nothing for none.
    pub(crate) fn decode(self, key: &Key, reply: Value) -> Result<Option<Entry>> {
        match (self, reply) {
            (_, Value::Nil) => Ok(None),
            (Self::Entry, Value::BulkString(bytes)) => Ok(Some(stored::decode(key, Bytes::from(bytes))?.0)),
            (Self::Plain, Value::Array(parts)) => plain(parts).map(Some),
            _ => Err(Error::corrupt("the server's reply is no entry")),
        }
    }
}

fn plain(parts: Vec<Value>) -> Result<Entry> {
    match <[Value; 2]>::try_from(parts) {
        Ok([Value::BulkString(value), Value::Int(millis)]) => {
            let deadline = u64::try_from(millis).map_or(Deadline::NEVER, Deadline::from_millis);
            Ok(Entry::new(value).with_expires(Expires::from(deadline)))
        }
        _ => Err(Error::corrupt("the server's reply is no entry")),
    }
}

/// The bytes of a header that name the version, as the scripts compare them.
pub(crate) fn version_field(version: &Version) -> Vec<u8> {
    let mut field = vec![0; 17];
    let bytes = version.as_bytes();
    if let Some((length, room)) = field.split_first_mut() {
        // A version has at most 16 bytes.
        *length = u8::try_from(bytes.len()).unwrap_or_default();
        room.iter_mut().zip(bytes).for_each(|(place, byte)| *place = *byte);
    }
    field
}

/// The bytes of a header that hold the deadline and its check.
pub(crate) fn deadline_fields(key: &Key, until: Until) -> Vec<u8> {
    let header = stored::encode(key, &Version::random(), until.deadline(), &[]);
    header.get(1..13).map(<[u8]>::to_vec).unwrap_or_default()
}

/// The check of a value as far as key and version make it; a script goes on with the value that it has counted.
pub(crate) fn check_state(key: &Key, version: &Version) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(key.as_str().as_bytes()), &version_field(version))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    fn key() -> Key {
        Key::new(["a", "b"]).unwrap()
    }

    /// The scripts rely on these places; kv-core may not move them without them.
    #[test]
    fn the_places_of_the_header_are_those_of_the_scripts() {
        let version = Version::random();
        let stored = stored::encode(&key(), &version, Deadline::from_millis(7), b"12");
        assert_eq!(stored::HEADER_BYTES, 34);
        assert_eq!(stored[0], 161);
        assert_eq!(stored[1..13], deadline_fields(&key(), Until::At(7)));
        assert_eq!(stored[13..30], version_field(&version));
        let check = crc32c::crc32c_append(check_state(&key(), &version), b"12");
        assert_eq!(stored[30..34], check.to_be_bytes());
    }

    #[test]
    fn what_is_no_entry_is_corrupt() {
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
    fn what_has_passed_is_gone_and_what_cannot_be_is_never() {
        let second = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
        let now = Now { at: second, latest: second + Duration::from_millis(2) };
        assert_eq!(Until::resolve(Expiry::At(now.latest), now), Until::Gone);
        assert_eq!(Until::resolve(Expiry::After(Duration::ZERO), now), Until::Gone);
        assert_eq!(Until::resolve(Expiry::At(SystemTime::UNIX_EPOCH), now), Until::Gone);
        assert_eq!(Until::resolve(Expiry::After(Duration::MAX), now), Until::Never);
        assert_eq!(Until::resolve(Expiry::After(Duration::from_millis(5)), now), Until::At(1_005));
    }
}
