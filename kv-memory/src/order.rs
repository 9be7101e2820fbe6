//! The ordered index of the keys, for `list` and `clear`.

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
/// The set is a tree of two levels: each leaf has a fence key, and holds the keys from its own fence key up to the next
/// fence key. Nearly every change takes the outer lock for reading and the lock of one leaf. Only splitting a full leaf
/// and joining sparse leaves take the outer lock for writing. The lowest fence always exists.
///
/// Lock order: the outer lock, then the lock of a leaf. A thread that holds one of them takes no further lock.
#[derive(Debug)]
pub(crate) struct Order {
    leaves: RwLock<Leaves>,
}

type Leaves = BTreeMap<Fence, Mutex<Leaf>>;

/// The lower bound of a leaf: the first key of the leaf when the leaf was created, or `None` for a bound below all
/// keys.
///
/// The bound is a `Key` and not a `String`, because a short `Key` is compared without following a pointer.
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

/// The maximum number of keys in a leaf. Sizes from 32 to 512 were measured: with a million keys, 256 and 512 are
/// fastest for inserts and lists; with a thousand keys, 512 is slowest for inserts.
const LEAF_KEYS: usize = 256;

/// The maximum number of keys in a sparse leaf. A sparse leaf is joined with a neighbour if both are small enough.
const SPARSE_KEYS: usize = LEAF_KEYS / 8;

impl Order {
    pub(crate) fn new() -> Self {
        Self { leaves: RwLock::new(empty_leaves()) }
    }

    /// Inserts a key. Does nothing if the key is present.
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

    /// Removes a key. Does nothing if the key is absent.
    pub(crate) fn remove(&self, key: &Key) {
        let is_sparse = {
            let leaves = self.leaves.read();
            let Some((_, leaf)) = leaves.range::<str, _>(up_to(key)).next_back() else { return };
            let mut leaf = leaf.lock();
            if !leaf.remove(key) {
                return;
            }
            // A join may fail, because both neighbours of a sparse leaf may be full. Therefore try a join only at some
            // lengths and not at each removal.
            leaf.len() == 0 || (leaf.len() <= SPARSE_KEYS && leaf.len().is_power_of_two())
        };
        if is_sparse {
            join(&mut self.leaves.write(), key);
        }
    }

    /// Returns the first `max` keys in a range. If `reverse`, returns the last `max` keys, the last key first.
    pub(crate) fn keys_in(&self, range: (Bound<&str>, Bound<&str>), reverse: bool, max: usize) -> Vec<Key> {
        let (start, end) = range;
        let leaves = self.leaves.read();
        let mut found = Vec::new();
        if reverse {
            let last = text_of(end).map_or(Bound::Unbounded, Bound::Included);
            for (_, leaf) in leaves.range::<str, _>((Bound::Unbounded, last)).rev() {
                let mut leaf = leaf.lock();
                let keys = leaf.keys();
                let end = keys.partition_point(|key| is_before_end(key, end));
                if collect(keys.iter().take(end).rev(), |key| is_after_start(key, start), max, &mut found) {
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
                if collect(keys.iter().skip(start), |key| is_before_end(key, end), max, &mut found) {
                    break;
                }
            }
        }
        found
    }

    /// Returns the number of keys. Takes the lock of one leaf after the other.
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

/// The range of fences up to a key. The last fence in this range belongs to the leaf of the key.
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

/// Adds keys of a leaf to `found`, as long as they are inside the range and `found` has fewer than `max` keys. Returns
/// true if no key of a further leaf can be added. Checks each key instead of searching for the end of the range by
/// bisection, because the loop often reaches `max` before the end of the range.
fn collect<'a>(
    keys: impl Iterator<Item = &'a Key>,
    is_inside: impl Fn(&Key) -> bool,
    max: usize,
    found: &mut Vec<Key>,
) -> bool {
    for key in keys {
        if found.len() == max || !is_inside(key) {
            return true;
        }
        found.push(key.clone());
    }
    found.len() == max
}

fn insert_and_split(leaves: &mut Leaves, key: Key) {
    let Some((_, leaf)) = leaves.range_mut::<str, _>(up_to(&key)).next_back() else { return };
    let leaf = leaf.get_mut();
    match leaf.keys() {
        keys if keys.len() < LEAF_KEYS => leaf.insert(key),
        // Do not split the leaf if the key comes after all keys of the leaf. Therefore the earlier leaves stay full if
        // keys are inserted in ascending order.
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

/// Joins the leaf of a key with a neighbour if both together have at most half of the maximum number of keys, so that
/// the next inserts do not split the joined leaf again. An empty leaf is always joined.
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

/// Joins two adjacent leaves, given by their fences, unless they have too many keys. Returns true if they were joined.
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
