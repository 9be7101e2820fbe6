//! Decoding pages of the tree.

use std::collections::BTreeMap;

use kv_core::Result;

use super::bytes::Bytes;
use super::files::Files;
use super::log::{Location, Pieces};

/// A leaf page: the records between two keys.
#[derive(Debug, Default)]
pub(crate) struct Leaf {
    /// The inclusive lower bound of the keys.
    pub(crate) low: Vec<u8>,
    /// The exclusive upper bound of the keys. If empty, there is no upper bound.
    pub(crate) high: Vec<u8>,
    pub(crate) records: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Leaf {
    /// True if a key is within the bounds of the page.
    pub(crate) fn covers(&self, key: &[u8]) -> bool {
        self.low.as_slice() <= key && (self.high.is_empty() || key < self.high.as_slice())
    }
}

/// The result of reading a page.
#[derive(Debug)]
pub(crate) enum Page {
    Leaf(Leaf),
    /// An inner page. It has no records and only refers to other pages.
    Inner,
    /// The last full version of the page is damaged or missing.
    Unreadable,
}

impl Page {
    /// Reads a page from its pieces. Returns the page, and the number of its unreadable pieces.
    pub(crate) fn read(files: &Files, pieces: &Pieces) -> Result<(Self, u64)> {
        let Pieces { last: _, base, changes } = pieces;
        let Some(bytes) = body(files, *base)? else { return Ok((Self::Unreadable, 1)) };
        let Some(node) = node(&bytes) else { return Ok((Self::Unreadable, 1)) };
        let Some((mut leaf, prefix)) = node else { return Ok((Self::Inner, 0)) };
        let mut unreadable = 0;
        for change in changes {
            let bytes = body(files, *change)?;
            if bytes.and_then(|bytes| apply(&mut leaf, &prefix, &bytes)).is_none() {
                unreadable += 1;
            }
        }
        Ok((Self::Leaf(leaf), unreadable))
    }
}

/// Reads the body of a message. `None` if the body is missing or damaged.
fn body(files: &Files, location: Location) -> Result<Option<Vec<u8>>> {
    match location {
        Location::Log(offset, length) => files.log(offset, length),
        Location::Blob(number) => files.blob(number),
    }
}

/// Decodes a leaf, and the common prefix that is not repeated in its keys. `Some(None)` for an inner page, `None` for
/// damaged bytes.
#[expect(clippy::option_option, reason = "an inner page and damaged bytes are different results")]
fn node(bytes: &[u8]) -> Option<Option<(Leaf, Vec<u8>)>> {
    let mut bytes = Bytes::new(bytes);
    let (_next, _merging_child, _is_merging) = (bytes.number()?, bytes.number()?, bytes.byte()?);
    let prefix_length = usize::from(bytes.byte()?);
    let (low, high) = (bytes.string()?.to_vec(), bytes.string()?.to_vec());
    let prefix = low.get(..prefix_length)?.to_vec();
    let (is_inner, count) = (bytes.byte()? != 0, bytes.number()?);
    if is_inner {
        return Some(None);
    }
    let mut keys = Vec::new();
    for _ in 0..count {
        keys.push([&prefix, bytes.string()?].concat());
    }
    let mut leaf = Leaf { low, high, records: BTreeMap::new() };
    for key in keys {
        leaf.records.insert(key, bytes.string()?.to_vec());
    }
    Some(Some((leaf, prefix)))
}

/// Applies one change to a leaf; `None` if the change is damaged.
fn apply(leaf: &mut Leaf, prefix: &[u8], bytes: &[u8]) -> Option<()> {
    let mut bytes = Bytes::new(bytes);
    match bytes.byte()? {
        0 => {
            let key = [prefix, bytes.string()?].concat();
            leaf.records.insert(key, bytes.string()?.to_vec());
        }
        1 => drop(leaf.records.remove(&[prefix, bytes.string()?].concat())),
        // Steps of merging two pages change no records: sled writes the result of the merge as a full version of a
        // page.
        2..=4 => {}
        _ => return None,
    }
    Some(())
}
