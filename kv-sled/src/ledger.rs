//! What should be in the tree: how many records there are, and a sum over all of them.
//!
//! sled passes over a damaged part of its log without a word, and then gives back values that were overwritten long ago.
//! Their own checksums are right, so only something that knows the whole can tell. The ledger is one record that every
//! batch rewrites together with what it changes; when a store is opened, it is compared with what is there.
//!
//! | bytes | what |
//! |---|---|
//! | 0–4 | `anykv` |
//! | 5 | layout, `1` |
//! | 6–13 | how many records, without the ledger, big-endian |
//! | 14–21 | the sum of their digests, modulo 2⁶⁴, big-endian |

use kv_core::{Error, Result, stored};

const MAGIC: &[u8; 5] = b"anykv";
const LAYOUT: u8 = 1;

/// The count and the sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Ledger {
    records: u64,
    sum: u64,
}

impl Ledger {
    /// Enters a record.
    pub(crate) fn add(&mut self, key: &[u8], value: &[u8]) {
        self.records = self.records.wrapping_add(1);
        self.sum = self.sum.wrapping_add(digest(key, value));
    }

    /// Strikes a record out.
    pub(crate) fn remove(&mut self, key: &[u8], value: &[u8]) {
        self.records = self.records.wrapping_sub(1);
        self.sum = self.sum.wrapping_sub(digest(key, value));
    }

    /// How many records there are.
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

    /// Reads a ledger.
    ///
    /// # Errors
    /// `Corrupt` for what is no ledger, and for the ledger of a layout that this version does not know.
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

/// Sixty-four bits of a record. Of the value the header is enough: it holds a random version and the value's checksum.
fn digest(key: &[u8], value: &[u8]) -> u64 {
    let header = value.get(..stored::HEADER_BYTES).unwrap_or(value);
    let hash = fold(fold(0x9E37_79B9_7F4A_7C15 ^ key.len() as u64, key), header);
    (hash ^ (hash >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93)
}

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
    fn what_was_added_and_removed_leaves_nothing() {
        let mut ledger = Ledger::default();
        ledger.add(b"da", b"1");
        ledger.add(b"db", b"2");
        let both = ledger;
        ledger.remove(b"da", b"1");
        ledger.add(b"da", b"3");
        assert_eq!(ledger.records(), both.records());
        assert_ne!(ledger, both);
        ledger.remove(b"da", b"3");
        ledger.remove(b"db", b"2");
        assert_eq!(ledger, Ledger::default());
    }

    #[test]
    fn keys_and_values_do_not_run_into_each_other() {
        let digests =
            [digest(b"d", b"ab"), digest(b"da", b"b"), digest(b"dab", b""), digest(b"d\0", b""), digest(b"d", b"")];
        for (place, one) in digests.iter().enumerate() {
            assert!(!digests[..place].contains(one), "{place}");
        }
    }

    #[test]
    fn a_ledger_reads_back_and_nothing_else_does() {
        let mut ledger = Ledger::default();
        ledger.add(b"da", b"1");
        let bytes = ledger.encode();
        assert_eq!(Ledger::decode(&bytes).unwrap(), ledger);
        for length in 0..bytes.len() {
            assert!(Ledger::decode(&bytes[..length]).is_err());
        }
        let mut newer = bytes;
        newer[5] = 2;
        assert!(Ledger::decode(&newer).unwrap_err().message().contains("layout 2"));
    }
}
