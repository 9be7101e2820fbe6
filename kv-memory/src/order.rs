//! The ordered index of the keys, for `list`.

mod leaf;

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Bound;

use kv_core::Key;
use parking_lot::{Mutex, RwLock};

use self::leaf::Leaf;

/// An ordered set of keys that several threads may change concurrently.
///
/// It is a tree of two levels: each leaf holds the keys from its fence key up to the next fence key. Nearly every
/// change takes the outer lock for reading and the lock of one leaf. Only splitting a full leaf and joining sparse
/// leaves take the outer lock for writing. The lowest fence always exists.
///
/// Lock order: the outer lock, then a leaf. No other lock is taken while one of them is held.
#[derive(Debug)]
pub(crate) struct Order {
    leaves: RwLock<Leaves>,
}

type Leaves = BTreeMap<Fence, Mutex<Leaf>>;

/// The lower bound of a leaf: the key at which the leaf was split off, or a bound below all keys.
///
/// Holds a `Key` and not its text, because a short key is compared without following a pointer.
#[derive(Debug, Clone)]
struct Fence(Option<Key>);

impl Fence {
    const LOWEST: Self = Self(None);

    fn as_str(&self) -> &str {
        self.0.as_ref().map_or("", Key::as_str)
    }
}

impl Borrow<str> for Fence {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl PartialEq for Fence {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Fence {}

impl PartialOrd for Fence {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Fence {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

/// Keys that a leaf holds at most. Measured from 32 to 512: with a million keys, 256 and 512 are fastest for inserts
/// and lists; with a thousand keys, 512 is slowest for inserts.
const LEAF_KEYS: usize = 256;

/// A leaf with at most this many keys tries to join a neighbour.
const SPARSE_KEYS: usize = LEAF_KEYS / 8;

impl Order {
    pub(crate) fn new() -> Self {
        Self { leaves: RwLock::new(empty_leaves()) }
    }

    /// Inserts a key. Does nothing if it is present.
    pub(crate) fn insert(&self, key: Key) {
        {
            let leaves = self.leaves.read();
            if let Some((_, leaf)) = leaves.range::<str, _>(up_to(&key)).next_back() {
                let mut leaf = leaf.lock();
                if leaf.len() < LEAF_KEYS {
                    return leaf.insert(key);
                }
            }
        }
        insert_and_split(&mut self.leaves.write(), key);
    }

    /// Removes a key. Does nothing if it is absent.
    pub(crate) fn remove(&self, key: &Key) {
        let is_sparse = {
            let leaves = self.leaves.read();
            let Some((_, leaf)) = leaves.range::<str, _>(up_to(key)).next_back() else { return };
            let mut leaf = leaf.lock();
            if !leaf.remove(key) {
                return;
            }
            // Tries to join only at some lengths, because it may fail: both neighbours of a sparse leaf may be full.
            leaf.len() == 0 || (leaf.len() <= SPARSE_KEYS && leaf.len().is_power_of_two())
        };
        if is_sparse {
            join(&mut self.leaves.write(), key);
        }
    }

    /// Returns the first `max` keys of a range, or in reverse the last `max`.
    pub(crate) fn page(&self, range: (Bound<&str>, Bound<&str>), reverse: bool, max: usize) -> Vec<Key> {
        let (start, end) = range;
        let leaves = self.leaves.read();
        let mut page = Vec::new();
        if reverse {
            let last = text_of(end).map_or(Bound::Unbounded, Bound::Included);
            for (_, leaf) in leaves.range::<str, _>((Bound::Unbounded, last)).rev() {
                let mut leaf = leaf.lock();
                let keys = leaf.keys();
                let end = keys.partition_point(|key| is_before_end(key, end));
                if take(keys.iter().take(end).rev(), |key| is_after_start(key, start), max, &mut page) {
                    break;
                }
            }
        } else {
            let first = text_of(start).unwrap_or("");
            let first = leaves.range::<str, _>((Bound::Unbounded, Bound::Included(first))).next_back();
            let first = first.map_or("", |(fence, _)| fence.as_str());
            for (_, leaf) in leaves.range::<str, _>((Bound::Included(first), Bound::Unbounded)) {
                let mut leaf = leaf.lock();
                let keys = leaf.keys();
                let start = keys.partition_point(|key| !is_after_start(key, start));
                if take(keys.iter().skip(start), |key| is_before_end(key, end), max, &mut page) {
                    break;
                }
            }
        }
        page
    }

    /// The number of keys. Visits all leaves.
    pub(crate) fn len(&self) -> usize {
        self.leaves.read().values().map(|leaf| leaf.lock().keys().len()).sum()
    }

    pub(crate) fn clear(&self) {
        *self.leaves.write() = empty_leaves();
    }
}

fn empty_leaves() -> Leaves {
    BTreeMap::from([(Fence::LOWEST, Mutex::default())])
}

/// The range of fences up to a key. The last fence in it is that of the key's leaf.
fn up_to(key: &Key) -> (Bound<&str>, Bound<&str>) {
    (Bound::Unbounded, Bound::Included(key.as_str()))
}

fn text_of(bound: Bound<&str>) -> Option<&str> {
    match bound {
        Bound::Included(text) | Bound::Excluded(text) => Some(text),
        Bound::Unbounded => None,
    }
}

fn is_after_start(key: &Key, start: Bound<&str>) -> bool {
    match start {
        Bound::Included(text) => key.as_str() >= text,
        Bound::Excluded(text) => key.as_str() > text,
        Bound::Unbounded => true,
    }
}

fn is_before_end(key: &Key, end: Bound<&str>) -> bool {
    match end {
        Bound::Included(text) => key.as_str() <= text,
        Bound::Excluded(text) => key.as_str() < text,
        Bound::Unbounded => true,
    }
}

/// Adds keys to the page while they are inside the range. Returns true if the page is complete. Checks each key instead
/// of searching the leaf for the end of the range, because a short page ends earlier.
fn take<'a>(
    keys: impl Iterator<Item = &'a Key>,
    is_inside: impl Fn(&Key) -> bool,
    max: usize,
    page: &mut Vec<Key>,
) -> bool {
    for key in keys {
        if page.len() == max || !is_inside(key) {
            return true;
        }
        page.push(key.clone());
    }
    page.len() == max
}

fn insert_and_split(leaves: &mut Leaves, key: Key) {
    let Some((_, leaf)) = leaves.range_mut::<str, _>(up_to(&key)).next_back() else { return };
    let leaf = leaf.get_mut();
    match leaf.keys() {
        keys if keys.len() < LEAF_KEYS => leaf.insert(key),
        // Keys inserted in ascending order start a new leaf, so that the earlier leaves stay full.
        [.., last] if *last < key => {
            let mut upper = Leaf::default();
            upper.insert(key.clone());
            leaves.insert(Fence(Some(key)), Mutex::new(upper));
        }
        _ => {
            let mut upper = leaf.split_off();
            let Some(first) = upper.keys().first().cloned() else { return };
            let half = if key < first { leaf } else { &mut upper };
            half.insert(key);
            leaves.insert(Fence(Some(first)), Mutex::new(upper));
        }
    }
}

/// Joins the leaf of a key with a neighbour if both together fill at most half a leaf, so that the next insert does not
/// split them again. An empty leaf always joins.
fn join(leaves: &mut Leaves, key: &Key) {
    let Some((fence, _)) = leaves.range::<str, _>(up_to(key)).next_back() else { return };
    let fence = fence.clone();
    let after = leaves
        .range::<str, _>((Bound::Excluded(fence.as_str()), Bound::Unbounded))
        .next()
        .map(|(fence, _)| fence.clone());
    if after.is_some_and(|after| join_pair(leaves, fence.as_str(), after.as_str())) {
        return;
    }
    let before = leaves.range::<str, _>((Bound::Unbounded, Bound::Excluded(fence.as_str()))).next_back();
    if let Some(before) = before.map(|(fence, _)| fence.clone()) {
        join_pair(leaves, before.as_str(), fence.as_str());
    }
}

fn join_pair(leaves: &mut Leaves, lower: &str, upper: &str) -> bool {
    let mut length_of = |fence: &str| leaves.get_mut(fence).map_or(0, |leaf| leaf.get_mut().len());
    let (lower_length, upper_length) = (length_of(lower), length_of(upper));
    if lower_length > 0 && upper_length > 0 && lower_length + upper_length > LEAF_KEYS / 2 {
        return false;
    }
    let Some(upper) = leaves.remove(upper) else { return false };
    if let Some(leaf) = leaves.get_mut(lower) {
        leaf.get_mut().append(upper.into_inner());
    }
    true
}

#[cfg(test)]
mod tests;
