//! The header in front of every stored value, for adapters whose backend keeps nothing but bytes.
//!
//! It tells damage and foreign data from values in any backend, and carries version and deadline with the value.
//!
//! | bytes | what |
//! |---|---|
//! | 0 | format, `0xA1` |
//! | 1–8 | deadline: milliseconds since the Unix epoch, big-endian; all ones: never |
//! | 9–12 | CRC-32C of the key's text and the deadline, big-endian |
//! | 13 | length of the version, 1 to 16 |
//! | 14–29 | version, zeros behind it |
//! | 30–33 | CRC-32C of the key's text, bytes 13–29 and the value, big-endian |
//! | 34– | value |
//!
//! The deadline has a check of its own, outside that of the value, so that it can be moved without reading the value. Both
//! checks cover the key, so that a value that lands under another key is told from one that belongs there.

use bytes::{Buf, Bytes};

use crate::entry::Entry;
use crate::error::{Error, Result};
use crate::expiry::Deadline;
use crate::key::Key;
use crate::version::Version;

/// The length of the header, in bytes.
pub const HEADER_BYTES: usize = 34;

/// The first byte of this format. A later format has another.
const FORMAT: u8 = 0xA1;

const NEVER: u64 = u64::MAX;

/// The fields of a header, found by their places.
struct Header<'b> {
    deadline: [u8; 8],
    deadline_check: [u8; 4],
    version: &'b [u8; 17],
    value_check: [u8; 4],
}

impl<'b> Header<'b> {
    fn read(stored: &'b [u8]) -> Result<Self> {
        let (&format, rest) =
            stored.split_first().ok_or_else(|| Error::corrupt("nothing is stored, not even a header"))?;
        if format != FORMAT {
            return Err(Error::corrupt(format!("the stored bytes have the format 0x{format:02X}, which is not ours")));
        }
        let short = || Error::corrupt(format!("{} stored bytes are too few for the header", stored.len()));
        let (&deadline, rest) = rest.split_first_chunk().ok_or_else(short)?;
        let (&deadline_check, rest) = rest.split_first_chunk().ok_or_else(short)?;
        let (version, rest) = rest.split_first_chunk().ok_or_else(short)?;
        let (&value_check, _) = rest.split_first_chunk().ok_or_else(short)?;
        Ok(Self { deadline, deadline_check, version, value_check })
    }
}

/// Header and value as they are stored under the key.
pub fn encode(key: &Key, version: &Version, deadline: Deadline, value: &[u8]) -> Vec<u8> {
    let mut stored = Vec::with_capacity(HEADER_BYTES + value.len());
    stored.push(FORMAT);
    stored.extend_from_slice(&deadline_fields(key, deadline));
    let version = version_field(version);
    stored.extend_from_slice(&version);
    stored.extend_from_slice(&value_check(key, &version, value).to_be_bytes());
    stored.extend_from_slice(value);
    stored
}

/// The entry that the bytes stand for, whether its deadline has passed or not, and the deadline. The value shares the
/// bytes' memory.
///
/// # Contract
/// - E-4: what is damaged, foreign or of a newer format is `Corrupt`.
///
/// # Errors
/// `Corrupt`.
pub fn decode(key: &Key, mut stored: Bytes) -> Result<(Entry, Deadline)> {
    let deadline = deadline(key, &stored)?;
    let header = Header::read(&stored)?;
    let value = stored.get(HEADER_BYTES..).unwrap_or_default();
    if value_check(key, header.version, value) != u32::from_be_bytes(header.value_check) {
        return Err(Error::corrupt("the stored value does not match its checksum"));
    }
    let (&[length], bytes) = header.version.split_first_chunk().ok_or_else(|| Error::corrupt("no version"))?;
    let bytes = bytes.get(..usize::from(length)).ok_or_else(|| Error::corrupt("the stored version is too long"))?;
    let version = Version::from_bytes(bytes).map_err(|_| Error::corrupt("the stored version is empty"))?;
    // Moved on in place: a slice would be a second owner, which costs an allocation.
    stored.advance(HEADER_BYTES);
    Ok((Entry::new(stored).with_version(version).with_expires(deadline), deadline))
}

/// The deadline alone, without looking at the value. The header is enough.
///
/// # Errors
/// `Corrupt`.
pub fn deadline(key: &Key, stored: &[u8]) -> Result<Deadline> {
    let header = Header::read(stored)?;
    if deadline_check(key, header.deadline) != u32::from_be_bytes(header.deadline_check) {
        return Err(Error::corrupt("the stored deadline does not match its checksum"));
    }
    Ok(match u64::from_be_bytes(header.deadline) {
        NEVER => Deadline::NEVER,
        millis => Deadline::from_millis(millis),
    })
}

/// Moves the deadline inside stored bytes; value and version stay.
///
/// # Errors
/// `Corrupt` where there is no header to change.
pub fn set_deadline(key: &Key, stored: &mut [u8], deadline: Deadline) -> Result<()> {
    Header::read(stored)?;
    if let Some(room) = stored.get_mut(1..13) {
        room.copy_from_slice(&deadline_fields(key, deadline));
    }
    Ok(())
}

/// Bytes 1 to 12.
fn deadline_fields(key: &Key, deadline: Deadline) -> [u8; 12] {
    let millis = deadline.as_millis().unwrap_or(NEVER).to_be_bytes();
    let mut fields = [0; 12];
    let (first, second) = fields.split_at_mut(8);
    first.copy_from_slice(&millis);
    second.copy_from_slice(&deadline_check(key, millis).to_be_bytes());
    fields
}

/// Bytes 13 to 29.
fn version_field(version: &Version) -> [u8; 17] {
    let mut field = [0; 17];
    let bytes = version.as_bytes();
    let [length, room @ ..] = &mut field;
    // A version has at most 16 bytes.
    *length = u8::try_from(bytes.len()).unwrap_or_default();
    room.iter_mut().zip(bytes).for_each(|(place, byte)| *place = *byte);
    field
}

fn deadline_check(key: &Key, millis: [u8; 8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(key.as_str().as_bytes()), &millis)
}

fn value_check(key: &Key, version: &[u8; 17], value: &[u8]) -> u32 {
    let check = crc32c::crc32c_append(crc32c::crc32c(key.as_str().as_bytes()), version);
    crc32c::crc32c_append(check, value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key() -> Key {
        Key::new(["a", "b"]).unwrap()
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(value in proptest::collection::vec(any::<u8>(), 0..200), millis in any::<u64>(), version in proptest::collection::vec(any::<u8>(), 1..=16)) {
            let (version, deadline) = (Version::from_bytes(&version).unwrap(), Deadline::from_millis(millis));
            let stored = Bytes::from(encode(&key(), &version, deadline, &value));
            let (entry, found) = decode(&key(), stored).unwrap();
            prop_assert_eq!((entry.value.as_ref(), entry.version, found), (value.as_slice(), Some(version), deadline));
        }

        #[test]
        fn every_flipped_bit_is_found(value in proptest::collection::vec(any::<u8>(), 0..40), bit in any::<prop::sample::Index>()) {
            let mut stored = encode(&key(), &Version::random(), Deadline::from_millis(5), &value);
            let bit = bit.index(stored.len() * 8);
            stored[bit / 8] ^= 1 << (bit % 8);
            let kind = decode(&key(), Bytes::from(stored)).map(|_| ()).unwrap_err().kind();
            prop_assert_eq!(kind, crate::ErrorKind::Corrupt);
        }

        #[test]
        fn no_bytes_panic(stored in proptest::collection::vec(any::<u8>(), 0..60), ours in any::<bool>()) {
            let mut stored = stored;
            if let (true, Some(first)) = (ours, stored.first_mut()) {
                *first = FORMAT;
            }
            let _ = set_deadline(&key(), &mut stored, Deadline::NEVER);
            prop_assert!(decode(&key(), Bytes::from(stored)).is_err());
        }
    }

    #[test]
    fn the_deadline_moves_without_the_value() {
        let version = Version::random();
        let mut stored = encode(&key(), &version, Deadline::NEVER, b"value");
        set_deadline(&key(), &mut stored, Deadline::from_millis(7)).unwrap();
        assert_eq!(deadline(&key(), &stored[..HEADER_BYTES]).unwrap(), Deadline::from_millis(7));
        let (entry, _) = decode(&key(), Bytes::from(stored)).unwrap();
        assert_eq!((entry.value.as_ref(), entry.version), (b"value".as_ref(), Some(version)));
    }

    #[test]
    fn a_value_under_another_key_is_refused() {
        let stored = encode(&key(), &Version::random(), Deadline::NEVER, b"value");
        assert!(decode(&Key::new(["a", "c"]).unwrap(), Bytes::from(stored)).is_err());
    }

    /// Written by the first version of this format; every later version reads it.
    #[test]
    fn the_first_format_is_read() {
        let fixture = b"\xA1\x00\x00\x01\x9B\x76\xDA\xA8\x00\xE5\x3E\xEC\x70\x100123456789abcdef\x96\xCF\x85\xDDada";
        let (entry, deadline) = decode(&key(), Bytes::from_static(fixture)).unwrap();
        assert_eq!(entry.value, "ada");
        assert_eq!(entry.version, Some(Version::from_bytes(b"0123456789abcdef").unwrap()));
        assert_eq!(deadline.as_millis(), Some(1_767_225_600_000));
    }
}
