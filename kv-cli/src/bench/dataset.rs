//! The entries that a measurement works on.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anykv::{Key, KeyPrefix, Result};

use super::traffic::Traffic;
use crate::random::Random;

/// Keys of three segments, a hundred under each prefix, scattered over the order of keys; values are random and distinct.
///
/// Keys are prepared, so that making them is no part of a figure. Of a large set a sample is prepared, in random order,
/// which is still larger than the caches of a processor.
#[derive(Debug)]
pub struct Dataset {
    entries: u64,
    value_bytes: usize,
    seed: u64,
    pub(super) keys: Vec<Key>,
    pub(super) missing: Vec<Key>,
    pub(super) groups: Vec<KeyPrefix>,
    /// How many keys were made that were never there before.
    fresh: AtomicU64,
    /// How many streams of traffic there were: each has random numbers of its own.
    streams: AtomicU64,
}

impl Dataset {
    /// How many keys a prefix has.
    pub const GROUP: u64 = 100;
    /// The most entries that there can be.
    pub const MAX_ENTRIES: u64 = FRESH;

    /// So many keys and groups of each kind are prepared at most.
    const SAMPLE: u64 = 1 << 18;
    /// And of those that are looked for in vain.
    const MISSING_SAMPLE: u64 = 1 << 14;

    /// A set of so many entries, at least one.
    ///
    /// # Errors
    /// `Invalid` above [`Dataset::MAX_ENTRIES`].
    pub fn new(entries: u64, value_bytes: usize, seed: u64) -> Result<Self> {
        let entries = entries.max(1);
        if entries > Self::MAX_ENTRIES {
            return Err(anykv::Error::invalid(format!("at most {} entries", Self::MAX_ENTRIES)));
        }
        let mut random = Random::new(seed);
        let keys = sample(entries, Self::SAMPLE, &mut random).map(Self::key).collect::<Result<_>>()?;
        let missing = (0..Self::MISSING_SAMPLE).map(|number| Self::key(MISSING + number * Self::GROUP));
        let missing = missing.collect::<Result<_>>()?;
        let groups = entries.div_ceil(Self::GROUP);
        let groups = sample(groups, Self::SAMPLE, &mut random);
        let groups =
            groups.map(|group| Ok(Self::key(group * Self::GROUP)?.parent().map_or(KeyPrefix::ALL, Into::into)));
        let groups = groups.collect::<Result<_>>()?;
        Ok(Self { entries, value_bytes, seed, keys, missing, groups, fresh: 0.into(), streams: 0.into() })
    }

    /// How many entries there are, without those that operations add.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// How long each value is.
    pub fn value_bytes(&self) -> usize {
        self.value_bytes
    }

    /// The key of an entry by its number.
    ///
    /// # Errors
    /// None for numbers below [`Dataset::MAX_ENTRIES`]; otherwise `Invalid` or the key of something else.
    pub fn key(number: u64) -> Result<Key> {
        // Odd multipliers are bijections of 32 bits: other groups, other places.
        let scatter = |number: u64| {
            let low = u32::try_from(number & u64::from(u32::MAX)).unwrap_or_default();
            format!("{:08x}", low.wrapping_mul(0x9E37_79B9).rotate_left(15).wrapping_mul(0x85EB_CA6B))
        };
        Key::new(["entries", &scatter(number / Self::GROUP), &scatter(number)])
    }

    /// The numbers of the entries, in batches.
    pub fn batches(&self, items: u64) -> impl Iterator<Item = Range<u64>> + Send + use<> {
        let entries = self.entries;
        let items = items.max(1);
        (0..entries.div_ceil(items)).map(move |batch| batch * items..((batch + 1) * items).min(entries))
    }

    /// A key that was never there before.
    ///
    /// # Errors
    /// `Invalid` after billions of them.
    pub fn fresh(&self) -> Result<Key> {
        Self::key(FRESH + self.fresh.fetch_add(1, Ordering::Relaxed) * Self::GROUP)
    }

    /// The keys that [`Dataset::fresh`] gave out.
    pub fn given_out(&self) -> impl Iterator<Item = Result<Key>> + Send + use<> {
        let given = self.fresh.load(Ordering::Relaxed);
        (0..given).map(|number| Self::key(FRESH + number * Self::GROUP))
    }

    /// Traffic for one task, with random numbers of its own.
    pub fn traffic(self: &Arc<Self>) -> Traffic {
        let stream = self.streams.fetch_add(1, Ordering::Relaxed);
        Traffic::new(Arc::clone(self), self.seed ^ (stream + 1).wrapping_mul(0xD6E8_FEB8_6659_FD93))
    }
}

/// Where numbers begin that were never loaded; each of them is in a group of its own.
const FRESH: u64 = Dataset::GROUP << 31;
/// Where those begin that never will be.
const MISSING: u64 = Dataset::GROUP * (3 << 30);

/// Numbers below `end` in random order: all of them, or a sample of so many.
fn sample(end: u64, most: u64, random: &mut Random) -> impl Iterator<Item = u64> + use<> {
    let mut numbers: Vec<u64> =
        if end <= most { (0..end).collect() } else { (0..most).map(|_| random.below(end)).collect() };
    for place in (1..numbers.len()).rev() {
        let other = random.below(place as u64 + 1);
        numbers.swap(place, usize::try_from(other).unwrap_or_default());
    }
    numbers.into_iter()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn keys_are_distinct_and_a_hundred_lie_under_a_prefix() {
        let dataset = Dataset::new(1_000, 10, 1).unwrap();
        let keys: HashSet<Key> = dataset.keys.iter().cloned().collect();
        assert_eq!((keys.len(), dataset.groups.len()), (1_000, 10));
        for group in &dataset.groups {
            assert_eq!(keys.iter().filter(|key| group.covers(key)).count(), 100);
        }
        assert!(dataset.missing.iter().all(|key| !keys.contains(key)));
        let fresh: HashSet<Key> = (0..100).map(|_| dataset.fresh().unwrap()).collect();
        assert!(fresh.len() == 100 && fresh.is_disjoint(&keys));
        assert_eq!(dataset.given_out().map(Result::unwrap).collect::<HashSet<_>>(), fresh);
    }

    #[test]
    fn batches_cover_every_entry_once() {
        let dataset = Dataset::new(1_005, 10, 1).unwrap();
        assert_eq!(dataset.batches(100).flatten().collect::<Vec<_>>(), (0..1_005).collect::<Vec<_>>());
        assert_eq!(Dataset::new(0, 0, 1).unwrap().batches(7).flatten().count(), 1);
    }
}
