//! The tree checksum: the number of records in the tree, and the sum of their digests.
//!
//! sled silently skips damaged parts of its log, and may then return values that were overwritten long ago. Such an old
//! value matches its own checksum, so only a checksum over the whole tree can detect the damage. The tree checksum is
//! one record, which every batch writes together with its other changes. Opening compares it with the records in the
//! tree.
//!
//! | bytes | content |
//! |---|---|
//! | 0–4 | `anykv` |
//! | 5 | layout, `1` |
//! | 6–13 | number of records, without the tree checksum, big-endian |
//! | 14–21 | sum of the records' digests, modulo 2⁶⁴, big-endian |

use kv_core::{Error, Result, stored};

/// The first bytes of a stored tree checksum. These bytes distinguish a store of this crate from other sled databases.
const MAGIC: &[u8; 5] = b"anykv";
/// The version of the stored format.
const LAYOUT: u8 = 1;

/// The number of records and the sum of their digests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct TreeChecksum {
    records: u64,
    sum: u64,
}

impl TreeChecksum {
    /// Adds a record.
    pub(crate) fn add(&mut self, key: &[u8], value: &[u8]) {
        self.records = self.records.wrapping_add(1);
        self.sum = self.sum.wrapping_add(digest(key, value));
    }

    /// Removes a record.
    pub(crate) fn remove(&mut self, key: &[u8], value: &[u8]) {
        self.records = self.records.wrapping_sub(1);
        self.sum = self.sum.wrapping_sub(digest(key, value));
    }

    /// The number of records.
    pub(crate) fn records(&self) -> u64 {
        self.records
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let Self { records, sum } = self;
        let mut bytes = Vec::with_capacity(22);
        bytes.extend_from_slice(MAGIC);
        bytes.push(LAYOUT);
        bytes.extend_from_slice(&records.to_be_bytes());
        bytes.extend_from_slice(&sum.to_be_bytes());
        bytes
    }

    /// Decodes a stored tree checksum.
    ///
    /// # Errors
    /// `Corrupt` for other bytes, and for a layout that this version does not know.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        let foreign = || Error::corrupt("the folder holds a sled database that is not a store of anykv");
        let (&layout, rest) = bytes.strip_prefix(MAGIC).and_then(<[u8]>::split_first).ok_or_else(foreign)?;
        if layout != LAYOUT {
            return Err(Error::corrupt(format!(
                "the store has the layout {layout}, and this version knows only layout {LAYOUT}"
            )));
        }
        let (&records, rest) = rest.split_first_chunk().ok_or_else(foreign)?;
        let (&sum, []) = rest.split_first_chunk().ok_or_else(foreign)? else { return Err(foreign()) };
        Ok(Self { records: u64::from_be_bytes(records), sum: u64::from_be_bytes(sum) })
    }
}

/// Returns the 64-bit digest of a record. The digest covers the key and the header of the value. That is enough,
/// because the header holds a random version and the checksum of the rest.
fn digest(key: &[u8], value: &[u8]) -> u64 {
    let header = value.get(..stored::HEADER_BYTES).unwrap_or(value);
    let hash = fold(fold(0x9E37_79B9_7F4A_7C15 ^ key.len() as u64, key), header);
    (hash ^ (hash >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93)
}

/// Mixes bytes into a hash.
fn fold(hash: u64, bytes: &[u8]) -> u64 {
    bytes.chunks(8).fold(hash, |hash, chunk| {
        let word = chunk.iter().fold(0, |word: u64, &byte| (word << 8) | u64::from(byte));
        (hash ^ word).wrapping_mul(0xFF51_AFD7_ED55_8CCD).rotate_left(29)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removing_every_added_record_restores_the_default() {
        let mut checksum = TreeChecksum::default();
        checksum.add(b"da", b"1");
        checksum.add(b"db", b"2");
        let both = checksum;
        checksum.remove(b"da", b"1");
        checksum.add(b"da", b"3");
        assert_eq!(checksum.records(), both.records());
        assert_ne!(checksum, both);
        checksum.remove(b"da", b"3");
        checksum.remove(b"db", b"2");
        assert_eq!(checksum, TreeChecksum::default());
    }

    #[test]
    fn records_with_the_same_joined_bytes_have_different_digests() {
        let digests =
            [digest(b"d", b"ab"), digest(b"da", b"b"), digest(b"dab", b""), digest(b"d\0", b""), digest(b"d", b"")];
        for (position, digest) in digests.iter().enumerate() {
            assert!(!digests[..position].contains(digest), "{position}");
        }
    }

    #[test]
    fn only_complete_bytes_of_a_known_layout_decode() {
        let mut checksum = TreeChecksum::default();
        checksum.add(b"da", b"1");
        let bytes = checksum.encode();
        assert_eq!(TreeChecksum::decode(&bytes).unwrap(), checksum);
        for length in 0..bytes.len() {
            assert!(TreeChecksum::decode(&bytes[..length]).is_err());
        }
        let mut newer = bytes;
        newer[5] = 2;
        assert!(TreeChecksum::decode(&newer).unwrap_err().message().contains("layout 2"));
    }
}
