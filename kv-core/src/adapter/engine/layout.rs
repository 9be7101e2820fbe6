//! The physical keys of an engine.

use std::ops::Bound;
use std::time::SystemTime;

use super::super::records::TextRange;
use super::ByteRange;
use crate::expiry::Deadline;
use crate::key::{Key, Namespace};

const DATA: u8 = b'd';
const INDEX: u8 = b'e';

/// The first byte, the deadline, and the longest stored text.
pub(super) const MAX_KEY_BYTES: usize = 1 + 8 + Namespace::MAX_KEY_BYTES;

/// A range of physical keys that owns its bounds.
#[derive(Debug, Clone)]
pub(super) struct OwnedRange(pub(super) Bound<Vec<u8>>, pub(super) Bound<Vec<u8>>);

impl OwnedRange {
    pub(super) fn borrowed(&self) -> ByteRange<'_> {
        (self.0.as_ref().map(Vec::as_slice), self.1.as_ref().map(Vec::as_slice))
    }

    /// Makes the range begin after this physical key, in the direction of a scan.
    pub(super) fn resume(&mut self, last: Vec<u8>, reverse: bool) {
        if reverse {
            self.1 = Bound::Excluded(last);
        } else {
            self.0 = Bound::Excluded(last);
        }
    }
}

/// Returns the physical key of an entry.
pub(super) fn data_key(key: &Key) -> Vec<u8> {
    data_text(key.as_str())
}

fn data_text(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + text.len());
    bytes.push(DATA);
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

/// Returns the physical key of an entry in the index by deadline; `None` if the entry never expires.
pub(super) fn index_key(deadline: Deadline, key: &Key) -> Option<Vec<u8>> {
    let millis = deadline.as_millis()?;
    let mut bytes = Vec::with_capacity(9 + key.as_str().len());
    bytes.push(INDEX);
    bytes.extend_from_slice(&millis.to_be_bytes());
    bytes.extend_from_slice(key.as_str().as_bytes());
    Some(bytes)
}

/// Returns the key of an entry's physical key; `None` if it is foreign.
pub(super) fn decode_data(physical: &[u8]) -> Option<Key> {
    match physical.split_first() {
        Some((&DATA, text)) => key(text),
        _ => None,
    }
}

/// Returns deadline and key of an item of the index; `None` if it is foreign.
pub(super) fn decode_index(physical: &[u8]) -> Option<(Deadline, Key)> {
    let (&INDEX, rest) = physical.split_first()? else { return None };
    let (&millis, text) = rest.split_first_chunk()?;
    Some((Deadline::from_millis(u64::from_be_bytes(millis)), key(text)?))
}

fn key(text: &[u8]) -> Option<Key> {
    Key::parse_stored(std::str::from_utf8(text).ok()?).ok()
}

/// Returns the range of the physical keys of the entries in a range of canonical texts.
pub(super) fn data_range((start, end): &TextRange) -> OwnedRange {
    let bound = |bound: &Bound<String>| bound.as_ref().map(|text| data_text(text));
    let start = match bound(start) {
        Bound::Unbounded => Bound::Included(vec![DATA]),
        start => start,
    };
    let end = match bound(end) {
        Bound::Unbounded => Bound::Excluded(vec![DATA + 1]),
        end => end,
    };
    OwnedRange(start, end)
}

/// Returns the range of the index whose deadlines have passed at `now`.
pub(super) fn due_range(now: SystemTime) -> OwnedRange {
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX).saturating_add(1);
    let mut end = vec![INDEX];
    end.extend_from_slice(&millis.to_be_bytes());
    OwnedRange(Bound::Included(vec![INDEX]), Bound::Excluded(end))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn physical_keys_decode_to_their_keys() {
        let key = Key::new(["a", "b c"]).unwrap();
        assert_eq!(decode_data(&data_key(&key)), Some(key.clone()));
        let deadline = Deadline::from_millis(7);
        let physical = index_key(deadline, &key).unwrap();
        assert_eq!(decode_index(&physical), Some((deadline, key.clone())));
        assert_eq!(index_key(Deadline::NEVER, &key), None);
        for foreign in [b"x".as_slice(), b"", b"d\xff", b"e123", &physical] {
            assert_eq!(decode_data(foreign), None);
        }
    }

    #[test]
    fn the_due_range_ends_at_the_millisecond_of_the_clock() {
        let key = Key::new(["a"]).unwrap();
        let due = due_range(SystemTime::UNIX_EPOCH + Duration::from_millis(7));
        let Bound::Excluded(end) = due.1 else { panic!("the end is exclusive") };
        assert!(index_key(Deadline::from_millis(7), &key).unwrap() < end);
        assert!(index_key(Deadline::from_millis(8), &key).unwrap() > end);
    }
}
