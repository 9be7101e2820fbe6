//! Writes of many keys in one round trip, for each server.

use std::collections::HashSet;

use kv_core::{DeleteOutcome, Error, Key, Result, SetItem, SetOptions, SetOutcome, Version, When};
use redis::Value;

use crate::error::{Effect, Failure};
use crate::layout::Place;
use crate::request::Request;
use crate::store::Shared;

/// How many keys one script writes: the server does nothing else meanwhile.
const AT_ONCE: usize = 250;

/// How many bytes one script writes, unless a single value is longer: the server gives up who sends a command of a gigabyte.
const BYTES_AT_ONCE: usize = 4 << 20;

/// Some of many keys, which lie in one bucket.
#[derive(Debug)]
pub(crate) struct Group<T> {
    pub(crate) slot: u16,
    pub(crate) bucket: usize,
    pub(crate) members: Vec<(T, Place)>,
}

/// A request of a batch, and whose answers it brings.
enum Part {
    /// One write that is judged for itself.
    Single(usize, Version),
    /// Writes without condition.
    Fill(Vec<(usize, Version)>),
}

impl Shared {
    /// The keys of a group, and its index where there is one.
    pub(crate) fn group_keys<'g, T>(&'g self, group: &'g Group<T>) -> Vec<&'g [u8]> {
        let mut keys: Vec<&[u8]> = group.members.iter().map(|(_, place)| place.physical.as_slice()).collect();
        keys.extend(self.layout.index(group.bucket).map(str::as_bytes));
        keys
    }

    pub(crate) fn has_index(&self) -> i32 {
        i32::from(self.layout.index(0).is_some())
    }

    pub(crate) async fn set_many(&self, items: &[SetItem]) -> Vec<Result<SetOutcome>> {
        let mut outcomes = Vec::new();
        // A key that stands twice is written twice, one after the other.
        for wave in waves(items, |item| &item.key) {
            let start = outcomes.len();
            outcomes.resize_with(start + wave.len(), || None);
            let (requests, parts) = self.set_parts(wave, start, &mut outcomes);
            for (part, answer) in parts.into_iter().zip(self.call_many(&requests).await) {
                match part {
                    Part::Single(number, version) => {
                        let effect = Effect::Writes(self.told(version));
                        let Some(item) = items.get(number) else { continue };
                        let outcome = answer
                            .map_err(|failure| failure.into_error(effect))
                            .and_then(|answer| self.set_outcome(&item.key, answer, version));
                        put(&mut outcomes, number, outcome);
                    }
                    Part::Fill(members) => {
                        for (number, version) in members {
                            let version = self.told(version);
                            let outcome = match &answer {
                                Ok(_) => Ok(SetOutcome::Stored { version, previous: None }),
                                Err(failure) => Err(failure.clone().into_error(Effect::Writes(version))),
                            };
                            put(&mut outcomes, number, outcome);
                        }
                    }
                }
            }
        }
        outcomes.into_iter().map(settled).collect()
    }

    fn set_parts(
        &self,
        wave: &[SetItem],
        start: usize,
        outcomes: &mut [Option<Result<SetOutcome>>],
    ) -> (Vec<Request>, Vec<Part>) {
        let (mut requests, mut parts, mut fills) = (Vec::new(), Vec::new(), Vec::new());
        for (number, item) in (start..).zip(wave) {
            let SetItem { key, value, options, .. } = item;
            if let Err(error) = self.check_set(value, options) {
                put(outcomes, number, Err(error));
                continue;
            }
            let set = self.prepare(key, value, options.expiry);
            if is_plain(options) {
                fills.push(((number, key, set.stored, set.until, set.version), set.place));
            } else {
                requests.push(self.set_script(key, &set, options));
                parts.push(Part::Single(number, set.version));
            }
        }
        let groups = by_bucket(fills, AT_ONCE).into_iter();
        for group in groups.flat_map(|group| lighter(group, |(_, _, stored, _, _)| stored.len(), BYTES_AT_ONCE)) {
            let mut cmd = self.scripts.fill.call(self.group_keys(&group));
            cmd.arg(self.has_index());
            let mut members = Vec::with_capacity(group.members.len());
            for ((number, key, stored, until, version), _) in &group.members {
                cmd.arg(stored).arg(until.text()).arg(key.as_str());
                members.push((*number, *version));
            }
            requests.push(Request::new(group.slot, cmd));
            parts.push(Part::Fill(members));
        }
        (requests, parts)
    }

    pub(crate) async fn delete_many(&self, keys: &[Key]) -> Vec<Result<DeleteOutcome>> {
        let mut outcomes = Vec::new();
        for wave in waves(keys, |key| key) {
            let start = outcomes.len();
            outcomes.resize_with(start + wave.len(), || None);
            let places = (start..).zip(wave).map(|(number, key)| ((number, key), self.layout.place(key)));
            let groups = by_bucket(places, AT_ONCE);
            let requests: Vec<_> =
                groups.iter().map(|group| self.remove_request(group, |(_, key)| key.as_str())).collect();
            for (group, answer) in groups.iter().zip(self.call_many(&requests).await) {
                let mut removed = removed(answer, group.members.len());
                for ((number, _), _) in &group.members {
                    let outcome = match &mut removed {
                        Ok(flags) => Ok(match flags.next() {
                            Some(true) => DeleteOutcome::Deleted { previous: None },
                            _ => DeleteOutcome::Missing,
                        }),
                        Err(failure) => Err(failure.clone().into_error(Effect::Writes(None))),
                    };
                    put(&mut outcomes, *number, outcome);
                }
            }
        }
        outcomes.into_iter().map(settled).collect()
    }

    /// Removes what is in a group, from its index too.
    pub(crate) fn remove_request<T>(&self, group: &Group<T>, member: impl Fn(&T) -> &str) -> Request {
        let mut cmd = self.scripts.remove.call(self.group_keys(group));
        cmd.arg(self.has_index());
        group.members.iter().for_each(|(named, _)| {
            cmd.arg(member(named));
        });
        Request::new(group.slot, cmd)
    }
}

/// Puts together what lies in one bucket, at most so many; in plain format, what lies in one slot.
pub(crate) fn by_bucket<T>(members: impl IntoIterator<Item = (T, Place)>, at_most: usize) -> Vec<Group<T>> {
    let mut groups: Vec<Group<T>> = Vec::new();
    let mut open: std::collections::HashMap<(u16, usize), usize> = std::collections::HashMap::new();
    for (member, place) in members {
        let name = (place.slot, place.bucket);
        // Neighbours are often of one bucket, and on a single server all are.
        let last = groups.len().wrapping_sub(1);
        let is_last = groups.last().is_some_and(|group| (group.slot, group.bucket) == name);
        let number = match if is_last { Some(&last) } else { open.get(&name) } {
            Some(&number) if groups.get(number).is_some_and(|group| group.members.len() < at_most) => number,
            _ => {
                groups.push(Group { slot: place.slot, bucket: place.bucket, members: Vec::new() });
                open.insert(name, groups.len() - 1);
                groups.len() - 1
            }
        };
        if let Some(group) = groups.get_mut(number) {
            group.members.push((member, place));
        }
    }
    groups
}

/// Divides a group into ones that are not heavier than this, where they have more than one member.
fn lighter<T>(group: Group<T>, weight: impl Fn(&T) -> usize, most: usize) -> Vec<Group<T>> {
    let Group { slot, bucket, members } = group;
    let (mut groups, mut left): (Vec<Group<T>>, usize) = (Vec::new(), 0);
    for (member, place) in members {
        let weight = weight(&member);
        match groups.last_mut() {
            Some(group) if weight <= left => group.members.push((member, place)),
            _ => {
                left = most;
                groups.push(Group { slot, bucket, members: vec![(member, place)] });
            }
        }
        left = left.saturating_sub(weight);
    }
    groups
}

/// Which of a group were there.
pub(crate) fn removed(answer: Result<Value, Failure>, count: usize) -> Result<impl Iterator<Item = bool>, Failure> {
    match answer? {
        Value::Array(flags) if flags.len() == count => Ok(flags.into_iter().map(|flag| flag == Value::Int(1))),
        _ => Err(Failure::Strange),
    }
}

/// Whether nothing about the write is to be judged or kept.
fn is_plain(options: &SetOptions) -> bool {
    let SetOptions { expiry, when, return_previous, .. } = options;
    *when == When::Always && !return_previous && *expiry != kv_core::Expiry::Keep
}

/// Divides a batch so that no part has a key twice.
fn waves<T>(items: &[T], key: impl Fn(&T) -> &Key) -> Vec<&[T]> {
    let (mut waves, mut seen, mut rest, mut length) = (Vec::new(), HashSet::new(), items, 0);
    for item in items {
        if !seen.insert(key(item)) {
            let (wave, after) = rest.split_at(length);
            waves.push(wave);
            (rest, length) = (after, 0);
            seen.clear();
            seen.insert(key(item));
        }
        length += 1;
    }
    waves.push(rest);
    waves
}

fn put<T>(outcomes: &mut [Option<Result<T>>], number: usize, outcome: Result<T>) {
    if let Some(place) = outcomes.get_mut(number) {
        *place = Some(outcome);
    }
}

fn settled<T>(outcome: Option<Result<T>>) -> Result<T> {
    outcome.unwrap_or_else(|| Err(Error::unavailable("there was no answer for this key")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_part_of_a_batch_has_a_key_twice() {
        let keys: Vec<Key> = ["a", "b", "a", "c", "c", "a"].iter().map(|name| Key::new([name]).unwrap()).collect();
        let lengths: Vec<usize> = waves(&keys, |key| key).iter().map(|wave| wave.len()).collect();
        assert_eq!(lengths, [2, 2, 2]);
        assert_eq!(waves(&keys[..0], |key| key).concat().len(), 0);
    }

    #[test]
    fn no_script_of_a_batch_is_heavier_than_a_limit_or_one_value() {
        let place = Place { physical: Vec::new(), slot: 7, bucket: 3 };
        let members = [4, 6, 1, 20, 5, 5].map(|weight| (weight, place.clone()));
        let group = Group { slot: 7, bucket: 3, members: members.into() };
        let groups = lighter(group, |weight| *weight, 10);
        assert!(groups.iter().all(|group| (group.slot, group.bucket) == (7, 3)));
        let weights: Vec<Vec<usize>> =
            groups.iter().map(|group| group.members.iter().map(|(weight, _)| *weight).collect()).collect();
        assert_eq!(weights, [vec![4, 6], vec![1], vec![20], vec![5, 5]]);
    }
}
