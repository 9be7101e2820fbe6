//! What stands in the tree: physical keys, and the way from stored bytes to entries.
//!
//! | first byte | rest of the key | value |
//! |---|---|---|
//! | `d` | the key's canonical text | header and value, as in [`kv_core::stored`] |
//! | `e` | deadline, milliseconds since the Unix epoch, big-endian, then the key's canonical text | nothing |
//! | `m` | nothing | the [ledger](crate::ledger) |

use std::ops::Bound;

use bytes::Bytes;
use kv_core::{Deadline, Entry, Key, Result, stored};
use sled::IVec;

const DATA: u8 = b'd';
const INDEX: u8 = b'e';

/// The key of the ledger.
pub(crate) const LEDGER: &[u8] = b"m";

/// From this size on a read value shares sled's memory instead of being copied, in bytes. Small ones are copied, because a
/// shared one costs an allocation of its own.
const SHARE_BYTES: usize = 4 << 10;

/// What a physical key stands for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Physical {
    Data(Key),
    Index(Deadline, Key),
    Ledger,
    Foreign,
}

impl Physical {
    pub(crate) fn read(bytes: &[u8]) -> Self {
        match bytes.split_first() {
            Some((&DATA, text)) => key(text).map_or(Self::Foreign, Self::Data),
            Some((&INDEX, rest)) => match index(rest) {
                Some((deadline, key)) => Self::Index(deadline, key),
                None => Self::Foreign,
            },
            _ if bytes == LEDGER => Self::Ledger,
            _ => Self::Foreign,
        }
    }
}

fn key(text: &[u8]) -> Option<Key> {
    Key::parse_stored(std::str::from_utf8(text).ok()?).ok()
}

fn index(rest: &[u8]) -> Option<(Deadline, Key)> {
    let (&millis, text) = rest.split_first_chunk()?;
    Some((Deadline::from_millis(u64::from_be_bytes(millis)), key(text)?))
}

/// Where a key's entry stands.
pub(crate) fn data_key(key: &Key) -> Vec<u8> {
    data_text(key.as_str())
}

fn data_text(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + text.len());
    bytes.push(DATA);
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

/// Where a key stands in the index by deadline; nowhere where it never expires.
pub(crate) fn index_key(deadline: Deadline, key: &Key) -> Option<Vec<u8>> {
    let millis = deadline.as_millis()?;
    let mut bytes = Vec::with_capacity(9 + key.as_str().len());
    bytes.push(INDEX);
    bytes.extend_from_slice(&millis.to_be_bytes());
    bytes.extend_from_slice(key.as_str().as_bytes());
    Some(bytes)
}

/// Where the entries of a range of canonical texts stand.
pub(crate) fn data_range((start, end): (Bound<String>, Bound<String>)) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    let start = match start {
        Bound::Included(text) => Bound::Included(data_text(&text)),
        Bound::Excluded(text) => Bound::Excluded(data_text(&text)),
        Bound::Unbounded => Bound::Included(vec![DATA]),
    };
    let end = match end {
        Bound::Included(text) => Bound::Included(data_text(&text)),
        Bound::Excluded(text) => Bound::Excluded(data_text(&text)),
        Bound::Unbounded => Bound::Excluded(vec![DATA + 1]),
    };
    (start, end)
}

/// Where everything stands in the index whose deadline is at most this, in milliseconds.
pub(crate) fn index_range(up_to_millis: u64) -> std::ops::Range<Vec<u8>> {
    let mut end = vec![INDEX];
    match up_to_millis.checked_add(1) {
        Some(millis) => end.extend_from_slice(&millis.to_be_bytes()),
        None => end = vec![INDEX + 1],
    }
    vec![INDEX]..end
}

/// The stored bytes as a caller may hold them.
pub(crate) fn share(stored: IVec) -> Bytes {
    if stored.len() < SHARE_BYTES { Bytes::copy_from_slice(&stored) } else { Bytes::from_owner(stored) }
}

/// The entry and its deadline, whether that has passed or not.
pub(crate) fn entry(key: &Key, stored: IVec) -> Result<(Entry, Deadline)> {
    stored::decode(key, share(stored))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn physical_keys_read_back() {
        let key = Key::new(["a", ""]).unwrap();
        let deadline = Deadline::from_millis(1_767_225_600_000);
        assert_eq!(Physical::read(&data_key(&key)), Physical::Data(key.clone()));
        assert_eq!(Physical::read(&index_key(deadline, &key).unwrap()), Physical::Index(deadline, key.clone()));
        assert_eq!(index_key(Deadline::NEVER, &key), None);
        assert_eq!(Physical::read(LEDGER), Physical::Ledger);
        for foreign in [&b""[..], b"x", b"mx", b"d\x00", b"e1234567", b"d\xff"] {
            assert_eq!(Physical::read(foreign), Physical::Foreign, "{foreign:?}");
        }
    }

    #[test]
    fn the_index_is_in_the_order_of_deadlines() {
        let key = Key::new(["k"]).unwrap();
        let at = |millis| index_key(Deadline::from_millis(millis), &key).unwrap();
        assert!(at(255) < at(256));
        assert!(index_range(255).contains(&at(255)) && !index_range(255).contains(&at(256)));
        assert!(!index_range(u64::MAX).contains(&data_key(&key)) && !index_range(u64::MAX).contains(&LEDGER.to_vec()));
    }
}
