//! Decodes pages of the tree.

use std::collections::BTreeMap;

use kv_core::Result;

use super::bytes::Bytes;
use super::files::Files;
use super::log::{Location, Pieces};

/// A leaf page: the records between two keys.
#[derive(Debug, Default)]
pub(crate) struct Leaf {
    pub(crate) low: Vec<u8>,
    /// The exclusive upper bound; empty means none.
    pub(crate) high: Vec<u8>,
    pub(crate) records: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Leaf {
    /// True if the key is within the bounds of the page.
    pub(crate) fn covers(&self, key: &[u8]) -> bool {
        self.low.as_slice() <= key && (self.high.is_empty() || key < self.high.as_slice())
    }
}

/// The result of reading a page.
#[derive(Debug)]
pub(crate) enum Page {
    Leaf(Leaf),
    /// An inner page, which only refers to other pages.
    Inner,
    Unreadable,
}

impl Page {
    /// Reads a page from its pieces. Returns it with the number of unreadable pieces.
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

fn body(files: &Files, location: Location) -> Result<Option<Vec<u8>>> {
    match location {
        Location::Log(offset, length) => files.log(offset, length),
        Location::Blob(number) => files.blob(number),
    }
}

/// Decodes a leaf and the prefix that its keys share and omit. `Some(None)` for an inner page, `None` for damaged
/// bytes.
#[expect(clippy::option_option, reason = "an inner page and damaged bytes are different answers")]
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

/// Applies one change to a leaf; `None` if it is damaged.
fn apply(leaf: &mut Leaf, prefix: &[u8], bytes: &[u8]) -> Option<()> {
    let mut bytes = Bytes::new(bytes);
    match bytes.byte()? {
        0 => {
            let key = [prefix, bytes.string()?].concat();
            leaf.records.insert(key, bytes.string()?.to_vec());
        }
        1 => drop(leaf.records.remove(&[prefix, bytes.string()?].concat())),
        // Steps of merging pages. sled writes the result as full versions of pages.
        2..=4 => {}
        _ => return None,
    }
    Some(())
}
