//! The keys of a store in order, for `list`.

mod leaf;

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Bound;

use kv_core::Key;
use parking_lot::{Mutex, RwLock};

use self::leaf::Leaf;

/// An ordered set of keys that threads change side by side.
///
/// It is a tree of two levels. Leaves of keys hang below fences: a leaf holds the keys from its own fence up to the
/// next. Nearly every change takes the outer lock for reading and the lock of one leaf; only splitting a full leaf and
/// joining sparse ones take it for writing. The lowest fence always stands.
///
/// Locks are taken outer before leaf, and no other lock is taken under them.
#[derive(Debug)]
pub(crate) struct Order {
    leaves: RwLock<Leaves>,
}

type Leaves = BTreeMap<Fence, Mutex<Leaf>>;

/// The lower end of a leaf: a key as it was when the leaf was split, or what is below all keys.
///
/// A key and not just its text, for short keys are compared without following a pointer.
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

/// How many keys a leaf holds. Measured from 32 to 512: among a million keys, 256 and 512 insert and list fastest; among a
/// thousand, 512 inserts slowest.
const LEAF_KEYS: usize = 256;

/// At this many keys and fewer a leaf tries to join a neighbour.
const SPARSE_KEYS: usize = LEAF_KEYS / 8;

impl Order {
    pub(crate) fn new() -> Self {
        Self { leaves: RwLock::new(no_leaves()) }
    }

    /// Adds a key; one that is there stays.
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

    /// Removes a key, where it is there.
    pub(crate) fn remove(&self, key: &Key) {
        let is_sparse = {
            let leaves = self.leaves.read();
            let Some((_, leaf)) = leaves.range::<str, _>(up_to(key)).next_back() else { return };
            let mut leaf = leaf.lock();
            if !leaf.remove(key) {
                return;
            }
            // Not at every removal from a leaf that no neighbour has room for.
            leaf.len() == 0 || (leaf.len() <= SPARSE_KEYS && leaf.len().is_power_of_two())
        };
        if is_sparse {
            join(&mut self.leaves.write(), key);
        }
    }

    /// The first `max` keys of a range, or the last ones in reverse.
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
                if take(keys.iter().take(end).rev(), |key| is_behind_start(key, start), max, &mut page) {
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
                let start = keys.partition_point(|key| !is_behind_start(key, start));
                if take(keys.iter().skip(start), |key| is_before_end(key, end), max, &mut page) {
                    break;
                }
            }
        }
        page
    }

    /// How many keys there are. Goes through the leaves.
    pub(crate) fn len(&self) -> usize {
        self.leaves.read().values().map(|leaf| leaf.lock().keys().len()).sum()
    }

    pub(crate) fn clear(&self) {
        *self.leaves.write() = no_leaves();
    }
}

fn no_leaves() -> Leaves {
    BTreeMap::from([(Fence::LOWEST, Mutex::default())])
}

/// The fences up to a key: the last of them is that of the key's leaf.
fn up_to(key: &Key) -> (Bound<&str>, Bound<&str>) {
    (Bound::Unbounded, Bound::Included(key.as_str()))
}

fn text_of(bound: Bound<&str>) -> Option<&str> {
    match bound {
        Bound::Included(text) | Bound::Excluded(text) => Some(text),
        Bound::Unbounded => None,
    }
}

fn is_behind_start(key: &Key, start: Bound<&str>) -> bool {
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

/// Takes keys as long as they are inside, and tells whether the page ends here. The far end of a leaf is not searched for:
/// a short page has no use for it.
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
        // Keys that come in ascending order leave full leaves behind them.
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

/// Joins the leaf of a key with a neighbour, where both together are half a leaf at most, so that the next insert does not
/// split them again. An empty leaf joins in any case.
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
    let mut length = |fence: &str| leaves.get_mut(fence).map_or(0, |leaf| leaf.get_mut().len());
    let (below, above) = (length(lower), length(upper));
    if below > 0 && above > 0 && below + above > LEAF_KEYS / 2 {
        return false;
    }
    let Some(moved) = leaves.remove(upper) else { return false };
    if let Some(leaf) = leaves.get_mut(lower) {
        leaf.get_mut().append(moved.into_inner());
    }
    true
}

#[cfg(test)]
mod tests;
