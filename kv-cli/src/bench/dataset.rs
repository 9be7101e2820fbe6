//! The data set of a benchmark.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anykv::{Key, KeyPrefix, Result};

use super::traffic::Traffic;
use crate::random::Random;

/// A set of entries. A key has three segments. Each prefix has a hundred keys. Keys with consecutive numbers are far
/// apart in key order. Values are random and distinct.
///
/// Keys are prepared in advance, so that their construction is not measured. A large set prepares only a sample of its
/// keys. The sample is in random order and larger than the caches of a processor.
#[derive(Debug)]
pub struct Dataset {
    entries: u64,
    value_bytes: usize,
    seed: u64,
    pub(super) keys: Vec<Key>,
    pub(super) missing: Vec<Key>,
    pub(super) groups: Vec<KeyPrefix>,
    /// The number of keys that [`Dataset::fresh`] has returned.
    fresh: AtomicU64,
    /// The number of created [`Traffic`] generators, each of which has its own seed.
    generators: AtomicU64,
}

impl Dataset {
    /// The number of keys under a prefix.
    pub const GROUP: u64 = 100;
    /// The maximum number of entries.
    pub const MAX_ENTRIES: u64 = FIRST_FRESH;

    /// The maximum number of prepared keys, and of prepared prefixes.
    const SAMPLE: u64 = 1 << 18;
    /// The number of prepared missing keys.
    const MISSING_SAMPLE: u64 = 1 << 14;

    /// Creates a data set of `entries` entries, at least one.
    ///
    /// # Errors
    /// `Invalid` above [`Dataset::MAX_ENTRIES`].
    pub fn new(entries: u64, value_bytes: usize, seed: u64) -> Result<Self> {
        let entries = entries.max(1);
        if entries > Self::MAX_ENTRIES {
            return Err(anykv::Error::invalid(format!("a data set has at most {} entries", Self::MAX_ENTRIES)));
        }
        let mut random = Random::new(seed);
        let keys = sample(entries, Self::SAMPLE, &mut random).map(Self::key).collect::<Result<_>>()?;
        let missing = (0..Self::MISSING_SAMPLE).map(|number| Self::key(FIRST_MISSING + number * Self::GROUP));
        let missing = missing.collect::<Result<_>>()?;
        let groups = entries.div_ceil(Self::GROUP);
        let groups = sample(groups, Self::SAMPLE, &mut random);
        let groups =
            groups.map(|group| Ok(Self::key(group * Self::GROUP)?.parent().map_or(KeyPrefix::ALL, Into::into)));
        let groups = groups.collect::<Result<_>>()?;
        Ok(Self { entries, value_bytes, seed, keys, missing, groups, fresh: 0.into(), generators: 0.into() })
    }

    /// Returns the number of entries.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// Returns the length of each value in bytes.
    pub fn value_bytes(&self) -> usize {
        self.value_bytes
    }

    /// Returns the key of an entry by its number, which must be below [`Dataset::MAX_ENTRIES`].
    ///
    /// # Errors
    /// None for valid numbers. The keys of other numbers are not specified.
    pub fn key(number: u64) -> Result<Key> {
        // Each segment is a bijection of the low 32 bits of its number. The two segments together determine the number,
        // so distinct numbers have distinct keys.
        let scatter = |number: u64| {
            let low = u32::try_from(number & u64::from(u32::MAX)).unwrap_or_default();
            format!("{:08x}", low.wrapping_mul(0x9E37_79B9).rotate_left(15).wrapping_mul(0x85EB_CA6B))
        };
        Key::new(["entries", &scatter(number / Self::GROUP), &scatter(number)])
    }

    /// Returns the numbers of all entries, as ranges of at most `items` numbers.
    pub fn batches(&self, items: u64) -> impl Iterator<Item = Range<u64>> + Send + use<> {
        let entries = self.entries;
        let items = items.max(1);
        (0..entries.div_ceil(items)).map(move |batch| batch * items..((batch + 1) * items).min(entries))
    }

    /// Returns a key that no entry has. Each call returns a different key.
    ///
    /// # Errors
    /// None. After 2^30 calls, the returned keys are keys of the missing entries.
    pub fn fresh(&self) -> Result<Key> {
        Self::key(FIRST_FRESH + self.fresh.fetch_add(1, Ordering::Relaxed) * Self::GROUP)
    }

    /// Returns the keys that [`Dataset::fresh`] has returned.
    pub fn fresh_keys(&self) -> impl Iterator<Item = Result<Key>> + Send + use<> {
        let count = self.fresh.load(Ordering::Relaxed);
        (0..count).map(|number| Self::key(FIRST_FRESH + number * Self::GROUP))
    }

    /// Creates a generator of keys and values for one task, with its own seed.
    pub fn traffic(self: &Arc<Self>) -> Traffic {
        let number = self.generators.fetch_add(1, Ordering::Relaxed);
        Traffic::new(Arc::clone(self), self.seed ^ (number + 1).wrapping_mul(0xD6E8_FEB8_6659_FD93))
    }
}

/// The first number for [`Dataset::fresh`]. Each fresh key has its own prefix.
const FIRST_FRESH: u64 = Dataset::GROUP << 31;
/// The first number of the keys that are never written.
const FIRST_MISSING: u64 = Dataset::GROUP * (3 << 30);

/// Returns numbers below `end` in random order: all of them, or a sample of `max` numbers.
fn sample(end: u64, max: u64, random: &mut Random) -> impl Iterator<Item = u64> + use<> {
    let mut numbers: Vec<u64> =
        if end <= max { (0..end).collect() } else { (0..max).map(|_| random.below(end)).collect() };
    for index in (1..numbers.len()).rev() {
        let other = random.below(index as u64 + 1);
        numbers.swap(index, usize::try_from(other).unwrap_or_default());
    }
    numbers.into_iter()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn keys_are_distinct_and_each_prefix_covers_a_hundred() {
        let dataset = Dataset::new(1_000, 10, 1).unwrap();
        let keys: HashSet<Key> = dataset.keys.iter().cloned().collect();
        assert_eq!((keys.len(), dataset.groups.len()), (1_000, 10));
        for group in &dataset.groups {
            assert_eq!(keys.iter().filter(|key| group.covers(key)).count(), 100);
        }
        assert!(dataset.missing.iter().all(|key| !keys.contains(key)));
        let fresh: HashSet<Key> = (0..100).map(|_| dataset.fresh().unwrap()).collect();
        assert!(fresh.len() == 100 && fresh.is_disjoint(&keys));
        assert_eq!(dataset.fresh_keys().map(Result::unwrap).collect::<HashSet<_>>(), fresh);
    }

    #[test]
    fn batches_cover_every_entry_once() {
        let dataset = Dataset::new(1_005, 10, 1).unwrap();
        assert_eq!(dataset.batches(100).flatten().collect::<Vec<_>>(), (0..1_005).collect::<Vec<_>>());
        assert_eq!(Dataset::new(0, 0, 1).unwrap().batches(7).flatten().count(), 1);
    }
}
