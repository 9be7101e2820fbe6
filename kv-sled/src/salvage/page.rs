//! Pages of the tree.

use std::collections::BTreeMap;

use kv_core::Result;

use super::bytes::Bytes;
use super::files::Files;
use super::log::{Pieces, Place};

/// A leaf: the records between two keys.
#[derive(Debug, Default)]
pub(crate) struct Leaf {
    pub(crate) low: Vec<u8>,
    /// Empty: no end.
    pub(crate) high: Vec<u8>,
    pub(crate) records: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Leaf {
    /// Whether the key is one that the page is for.
    pub(crate) fn covers(&self, key: &[u8]) -> bool {
        self.low.as_slice() <= key && (self.high.is_empty() || key < self.high.as_slice())
    }
}

/// What came of reading a page.
#[derive(Debug)]
pub(crate) enum Page {
    Leaf(Leaf),
    /// It only says where others are.
    Inner,
    Unreadable,
}

impl Page {
    /// Puts a page together, and tells how many of its pieces could not be read.
    pub(crate) fn read(files: &Files, pieces: &Pieces) -> Result<(Self, u64)> {
        let Pieces { last: _, whole, additions } = pieces;
        let Some(bytes) = body(files, *whole)? else { return Ok((Self::Unreadable, 1)) };
        let Some(node) = node(&bytes) else { return Ok((Self::Unreadable, 1)) };
        let Some((mut leaf, prefix)) = node else { return Ok((Self::Inner, 0)) };
        let mut unreadable = 0;
        for place in additions {
            let bytes = body(files, *place)?;
            if bytes.and_then(|bytes| add(&mut leaf, &prefix, &bytes)).is_none() {
                unreadable += 1;
            }
        }
        Ok((Self::Leaf(leaf), unreadable))
    }
}

fn body(files: &Files, place: Place) -> Result<Option<Vec<u8>>> {
    match place {
        Place::Log(place, length) => files.log(place, length),
        Place::Blob(number) => files.blob(number),
    }
}

/// A leaf and what its keys are short of at the front, or nothing for an inner page; `None` where the bytes are no page.
#[expect(clippy::option_option, reason = "no page and no leaf are different answers")]
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

/// Adds one change to a leaf.
fn add(leaf: &mut Leaf, prefix: &[u8], bytes: &[u8]) -> Option<()> {
    let mut bytes = Bytes::new(bytes);
    match bytes.byte()? {
        0 => {
            let key = [prefix, bytes.string()?].concat();
            leaf.records.insert(key, bytes.string()?.to_vec());
        }
        1 => drop(leaf.records.remove(&[prefix, bytes.string()?].concat())),
        // Of the merging of pages, whose outcome is written as a whole.
        2..=4 => {}
        _ => return None,
    }
    Some(())
}
