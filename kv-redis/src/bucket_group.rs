//! Groups of keys in the same bucket, so that one command can have all keys of a group.

use std::collections::HashMap;

use crate::layout::Place;
use crate::state::State;

/// Items whose keys are in one bucket. The plain format has no buckets, so the keys of its groups are in one slot.
#[derive(Debug)]
pub(crate) struct BucketGroup<T> {
    pub(crate) slot: u16,
    pub(crate) bucket: usize,
    pub(crate) members: Vec<(T, Place)>,
}

impl State {
    /// Returns the `KEYS` of a script on a group: the keys of its entries, then the key of their index if there is one.
    pub(crate) fn group_keys<'g, T>(&'g self, group: &'g BucketGroup<T>) -> Vec<&'g [u8]> {
        let mut keys: Vec<&[u8]> = group.members.iter().map(|(_, place)| place.physical.as_slice()).collect();
        keys.extend(self.layout.index(group.bucket).map(str::as_bytes));
        keys
    }

    /// Returns an argument for scripts on groups: 1 if the last key is an index, else 0.
    pub(crate) fn has_index(&self) -> i32 {
        i32::from(self.layout.index(0).is_some())
    }
}

/// Groups items by bucket, or by slot in plain format, with at most `max_members` items in a group.
pub(crate) fn group_by_bucket<T>(
    items: impl IntoIterator<Item = (T, Place)>,
    max_members: usize,
) -> Vec<BucketGroup<T>> {
    let mut groups: Vec<BucketGroup<T>> = Vec::new();
    let mut unfilled: HashMap<(u16, usize), usize> = HashMap::new();
    for (member, place) in items {
        let bucket = (place.slot, place.bucket);
        // The last group is tried before the map, because adjacent items are often in the same bucket.
        let last = groups.len().wrapping_sub(1);
        let is_last = groups.last().is_some_and(|group| (group.slot, group.bucket) == bucket);
        let index = match if is_last { Some(&last) } else { unfilled.get(&bucket) } {
            Some(&index) if groups.get(index).is_some_and(|group| group.members.len() < max_members) => index,
            _ => {
                groups.push(BucketGroup { slot: place.slot, bucket: place.bucket, members: Vec::new() });
                unfilled.insert(bucket, groups.len() - 1);
                groups.len() - 1
            }
        };
        if let Some(group) = groups.get_mut(index) {
            group.members.push((member, place));
        }
    }
    groups
}

/// Splits a group into groups whose weights are at most `max_weight` in total. A heavier member forms a separate group.
pub(crate) fn split_by_weight<T>(
    group: BucketGroup<T>,
    weight: impl Fn(&T) -> usize,
    max_weight: usize,
) -> Vec<BucketGroup<T>> {
    let BucketGroup { slot, bucket, members } = group;
    let (mut groups, mut remaining): (Vec<BucketGroup<T>>, usize) = (Vec::new(), 0);
    for (member, place) in members {
        let weight = weight(&member);
        match groups.last_mut() {
            Some(group) if weight <= remaining => group.members.push((member, place)),
            _ => {
                remaining = max_weight;
                groups.push(BucketGroup { slot, bucket, members: vec![(member, place)] });
            }
        }
        remaining = remaining.saturating_sub(weight);
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_exceeds_the_maximum_weight_only_if_it_has_one_member() {
        let place = Place { physical: Vec::new(), slot: 7, bucket: 3 };
        let members = [4, 6, 1, 20, 5, 5].map(|weight| (weight, place.clone()));
        let group = BucketGroup { slot: 7, bucket: 3, members: members.into() };
        let groups = split_by_weight(group, |weight| *weight, 10);
        assert!(groups.iter().all(|group| (group.slot, group.bucket) == (7, 3)));
        let weights: Vec<Vec<usize>> =
            groups.iter().map(|group| group.members.iter().map(|(weight, _)| *weight).collect()).collect();
        assert_eq!(weights, [vec![4, 6], vec![1], vec![20], vec![5, 5]]);
    }
}
