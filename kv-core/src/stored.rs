//! The header in front of every stored value, for backends that store only bytes.
//!
//! The header carries the version and the deadline. Its checksums detect damaged and foreign data.
//!
//! | bytes | content |
//! |---|---|
//! | 0 | format, `0xA1` |
//! | 1–8 | deadline in milliseconds since the Unix epoch, big-endian; all ones for never |
//! | 9–12 | CRC-32C of the key's text and the deadline, big-endian |
//! | 13 | length of the version, 1 to 16 |
//! | 14–29 | version, padded with zeros |
//! | 30–33 | CRC-32C of the key's text, bytes 13–29 and the value, big-endian |
//! | 34– | value |
//!
//! The deadline has its own checksum, so that the deadline can change without a read of the value. Both checksums
//! include the key, so that a value under the wrong key is detected.

use bytes::{Buf, Bytes};

use crate::entry::Entry;
use crate::error::{Error, Result};
use crate::expiry::Deadline;
use crate::key::Key;
use crate::version::Version;

/// The length of the header, in bytes.
pub const HEADER_BYTES: usize = 34;

/// The first byte of this format. A later format will use another byte.
const FORMAT: u8 = 0xA1;

/// The stored deadline of an entry that never expires.
const NEVER: u64 = u64::MAX;

/// The fields of a header.
struct Header<'b> {
    deadline: [u8; 8],
    deadline_crc: [u8; 4],
    version: &'b [u8; 17],
    value_crc: [u8; 4],
}

impl<'b> Header<'b> {
    fn read(stored: &'b [u8]) -> Result<Self> {
        let (&format, rest) =
            stored.split_first().ok_or_else(|| Error::corrupt("the stored bytes are empty, without a header"))?;
        if format != FORMAT {
            return Err(Error::corrupt(format!("the stored bytes have the unknown format 0x{format:02X}")));
        }
        let short = || Error::corrupt(format!("{} stored bytes are too short for the header", stored.len()));
        let (&deadline, rest) = rest.split_first_chunk().ok_or_else(short)?;
        let (&deadline_crc, rest) = rest.split_first_chunk().ok_or_else(short)?;
        let (version, rest) = rest.split_first_chunk().ok_or_else(short)?;
        let (&value_crc, _) = rest.split_first_chunk().ok_or_else(short)?;
        Ok(Self { deadline, deadline_crc, version, value_crc })
    }
}

/// Encodes a header and a value for storage under the key.
pub fn encode(key: &Key, version: &Version, deadline: Deadline, value: &[u8]) -> Vec<u8> {
    let mut stored = Vec::with_capacity(HEADER_BYTES + value.len());
    stored.push(FORMAT);
    stored.extend_from_slice(&deadline_fields(key, deadline));
    let version = version_field(version);
    stored.extend_from_slice(&version);
    stored.extend_from_slice(&value_crc(key, &version, value).to_be_bytes());
    stored.extend_from_slice(value);
    stored
}

/// Decodes stored bytes and returns the entry, live or expired, and its deadline. The value shares the memory of
/// `stored`.
///
/// # Contract
/// - E-4: damaged bytes, foreign bytes and bytes of a newer format are `Corrupt`.
///
/// # Errors
/// `Corrupt`.
pub fn decode(key: &Key, mut stored: Bytes) -> Result<(Entry, Deadline)> {
    let deadline = deadline(key, &stored)?;
    let header = Header::read(&stored)?;
    let value = stored.get(HEADER_BYTES..).unwrap_or_default();
    if value_crc(key, header.version, value) != u32::from_be_bytes(header.value_crc) {
        return Err(Error::corrupt("the stored value does not match its checksum"));
    }
    let (&[length], bytes) =
        header.version.split_first_chunk().ok_or_else(|| Error::corrupt("the version is missing"))?;
    let bytes = bytes.get(..usize::from(length)).ok_or_else(|| Error::corrupt("the stored version is too long"))?;
    let version = Version::from_bytes(bytes).map_err(|_| Error::corrupt("the stored version is empty"))?;
    // `advance` reuses this `Bytes`. A slice would be a second owner of the memory, and this costs an allocation.
    stored.advance(HEADER_BYTES);
    Ok((Entry::new(stored).with_version(version).with_expires(deadline), deadline))
}

/// Decodes only the deadline. `stored` may consist of the header alone.
///
/// # Errors
/// `Corrupt`.
pub fn deadline(key: &Key, stored: &[u8]) -> Result<Deadline> {
    let header = Header::read(stored)?;
    if deadline_crc(key, header.deadline) != u32::from_be_bytes(header.deadline_crc) {
        return Err(Error::corrupt("the stored deadline does not match its checksum"));
    }
    Ok(match u64::from_be_bytes(header.deadline) {
        NEVER => Deadline::NEVER,
        millis => Deadline::from_millis(millis),
    })
}

/// Replaces the deadline inside stored bytes. Value and version stay.
///
/// # Errors
/// `Corrupt` if the bytes do not start with a header.
pub fn set_deadline(key: &Key, stored: &mut [u8], deadline: Deadline) -> Result<()> {
    Header::read(stored)?;
    if let Some(target) = stored.get_mut(1..13) {
        target.copy_from_slice(&deadline_fields(key, deadline));
    }
    Ok(())
}

/// Encodes bytes 1 to 12 of the header.
fn deadline_fields(key: &Key, deadline: Deadline) -> [u8; 12] {
    let millis = deadline.as_millis().unwrap_or(NEVER).to_be_bytes();
    let mut fields = [0; 12];
    let (first, second) = fields.split_at_mut(8);
    first.copy_from_slice(&millis);
    second.copy_from_slice(&deadline_crc(key, millis).to_be_bytes());
    fields
}

/// Encodes bytes 13 to 29 of the header.
fn version_field(version: &Version) -> [u8; 17] {
    let mut field = [0; 17];
    let bytes = version.as_bytes();
    let [length, target @ ..] = &mut field;
    // The conversion cannot fail: a version has at most 16 bytes.
    *length = u8::try_from(bytes.len()).unwrap_or_default();
    target.iter_mut().zip(bytes).for_each(|(target, byte)| *target = *byte);
    field
}

fn deadline_crc(key: &Key, millis: [u8; 8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(key.as_str().as_bytes()), &millis)
}

fn value_crc(key: &Key, version: &[u8; 17], value: &[u8]) -> u32 {
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
        fn decoding_reverses_encoding(value in proptest::collection::vec(any::<u8>(), 0..200), millis in any::<u64>(), version in proptest::collection::vec(any::<u8>(), 1..=16)) {
            let (version, deadline) = (Version::from_bytes(&version).unwrap(), Deadline::from_millis(millis));
            let stored = Bytes::from(encode(&key(), &version, deadline, &value));
            let (entry, found) = decode(&key(), stored).unwrap();
            prop_assert_eq!((entry.value.as_ref(), entry.version, found), (value.as_slice(), Some(version), deadline));
        }

        #[test]
        fn every_flipped_bit_is_detected(value in proptest::collection::vec(any::<u8>(), 0..40), bit in any::<prop::sample::Index>()) {
            let mut stored = encode(&key(), &Version::random(), Deadline::from_millis(5), &value);
            let bit = bit.index(stored.len() * 8);
            stored[bit / 8] ^= 1 << (bit % 8);
            let kind = decode(&key(), Bytes::from(stored)).map(|_| ()).unwrap_err().kind();
            prop_assert_eq!(kind, crate::ErrorKind::Corrupt);
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(stored in proptest::collection::vec(any::<u8>(), 0..60), ours in any::<bool>()) {
            let mut stored = stored;
            if let (true, Some(first)) = (ours, stored.first_mut()) {
                *first = FORMAT;
            }
            let _ = set_deadline(&key(), &mut stored, Deadline::NEVER);
            prop_assert!(decode(&key(), Bytes::from(stored)).is_err());
        }
    }

    #[test]
    fn the_deadline_changes_without_the_value() {
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

    /// The fixture was written by the first version of this format. Every later version must read this fixture.
    #[test]
    fn the_first_format_is_read() {
        let fixture = b"\xA1\x00\x00\x01\x9B\x76\xDA\xA8\x00\xE5\x3E\xEC\x70\x100123456789abcdef\x96\xCF\x85\xDDada";
        let (entry, deadline) = decode(&key(), Bytes::from_static(fixture)).unwrap();
        assert_eq!(entry.value, "ada");
        assert_eq!(entry.version, Some(Version::from_bytes(b"0123456789abcdef").unwrap()));
        assert_eq!(deadline.as_millis(), Some(1_767_225_600_000));
    }
}
