//! Entries as stored bytes, and back.
//!
//! A record is a physical key and its value in sled's tree. The first byte of the physical key is the kind of the
//! record:
//!
//! | first byte | rest of the key | value |
//! |---|---|---|
//! | `d` | the key's canonical text | header and value, as in [`kv_core::stored`] |
//! | `e` | deadline, milliseconds since the Unix epoch, big-endian, then the key's canonical text | empty |
//! | `m` | empty | the [tree checksum](crate::tree_checksum) |
//! | `p` | empty | [padding](crate::reclaim), removed again at once |

use std::ops::Bound;

use bytes::Bytes;
use kv_core::{Deadline, Entry, Key, Result, stored};
use sled::IVec;

const DATA: u8 = b'd';
const INDEX: u8 = b'e';

/// The physical key of the tree checksum.
pub(crate) const CHECKSUM_KEY: &[u8] = b"m";

/// The physical key of the padding that fills up segments of the log.
pub(crate) const PADDING_KEY: &[u8] = b"p";

/// The minimum number of bytes at which a stored value that was read shares sled's memory. A copy and a shared value
/// both need one allocation. A smaller value is copied, because its copy is cheap and does not keep sled's memory
/// alive.
const MIN_SHARED_BYTES: usize = 4 << 10;

/// A decoded physical key.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Physical {
    Data(Key),
    Index(Deadline, Key),
    Checksum,
    Padding,
    Foreign,
}

impl Physical {
    pub(crate) fn decode(bytes: &[u8]) -> Self {
        match bytes.split_first() {
            Some((&DATA, text)) => key(text).map_or(Self::Foreign, Self::Data),
            Some((&INDEX, rest)) => match index(rest) {
                Some((deadline, key)) => Self::Index(deadline, key),
                None => Self::Foreign,
            },
            _ if bytes == CHECKSUM_KEY => Self::Checksum,
            _ if bytes == PADDING_KEY => Self::Padding,
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

/// The physical key of an entry.
pub(crate) fn data_key(key: &Key) -> Vec<u8> {
    data_text(key.as_str())
}

fn data_text(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + text.len());
    bytes.push(DATA);
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

/// The physical key of an entry in the deadline index. `None` if the entry never expires.
pub(crate) fn index_key(deadline: Deadline, key: &Key) -> Option<Vec<u8>> {
    let millis = deadline.as_millis()?;
    let mut bytes = Vec::with_capacity(9 + key.as_str().len());
    bytes.push(INDEX);
    bytes.extend_from_slice(&millis.to_be_bytes());
    bytes.extend_from_slice(key.as_str().as_bytes());
    Some(bytes)
}

/// The range of the physical keys of all entries in a range of canonical texts.
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

/// The range of the physical keys in the deadline index up to and including a deadline, in milliseconds since the Unix
/// epoch.
pub(crate) fn index_range(up_to_millis: u64) -> std::ops::Range<Vec<u8>> {
    let mut end = vec![INDEX];
    match up_to_millis.checked_add(1) {
        Some(millis) => end.extend_from_slice(&millis.to_be_bytes()),
        None => end = vec![INDEX + 1],
    }
    vec![INDEX]..end
}

/// Converts stored bytes into bytes that a caller can keep. See [`MIN_SHARED_BYTES`].
fn share(stored: IVec) -> Bytes {
    if stored.len() < MIN_SHARED_BYTES { Bytes::copy_from_slice(&stored) } else { Bytes::from_owner(stored) }
}

/// Decodes an entry and its deadline. The entry may have expired.
pub(crate) fn entry(key: &Key, stored: IVec) -> Result<(Entry, Deadline)> {
    stored::decode(key, share(stored))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_physical_key_decodes_to_its_parts() {
        let key = Key::new(["a", ""]).unwrap();
        let deadline = Deadline::from_millis(1_767_225_600_000);
        assert_eq!(Physical::decode(&data_key(&key)), Physical::Data(key.clone()));
        assert_eq!(Physical::decode(&index_key(deadline, &key).unwrap()), Physical::Index(deadline, key.clone()));
        assert_eq!(index_key(Deadline::NEVER, &key), None);
        assert_eq!(Physical::decode(CHECKSUM_KEY), Physical::Checksum);
        for foreign in [&b""[..], b"x", b"mx", b"d\x00", b"e1234567", b"d\xff"] {
            assert_eq!(Physical::decode(foreign), Physical::Foreign, "{foreign:?}");
        }
    }

    #[test]
    fn the_index_is_ordered_by_deadline() {
        let key = Key::new(["k"]).unwrap();
        let at = |millis| index_key(Deadline::from_millis(millis), &key).unwrap();
        assert!(at(255) < at(256));
        assert!(index_range(255).contains(&at(255)) && !index_range(255).contains(&at(256)));
        assert!(
            !index_range(u64::MAX).contains(&data_key(&key)) && !index_range(u64::MAX).contains(&CHECKSUM_KEY.to_vec())
        );
    }
}
