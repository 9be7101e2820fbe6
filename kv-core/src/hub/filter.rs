//! A filter over the places of subscribers, so that a writer of other keys takes no lock.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use super::hash::hash;
use crate::encoding;

/// Rules out most keys that no subscribed place covers.
///
/// A place is the canonical text of a subscribed key or prefix. Only a place whose text is the key's text, or ends at a
/// separator of the key's text, can cover the key. The filter holds the lengths of all places, so that nearly all of
/// these texts are ruled out before they are hashed, and a Bloom filter over the hashes of the places.
///
/// Reading takes no lock. [`Counts`] has what is needed to change the filter; its holder changes the filter alone.
#[derive(Debug, Default)]
pub(super) struct PlaceFilter {
    /// True if a subscriber watches every key.
    has_root: AtomicBool,
    /// The lengths of the subscribed keys, as a set of [`length_bit`]s.
    keys: AtomicU64,
    /// The lengths of the subscribed prefixes, as a set of [`length_bit`]s.
    prefixes: AtomicU64,
    bloom: Bloom,
}

/// The kind of a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The place covers one key.
    Key,
    /// The place covers the keys under a prefix.
    Prefix,
}

/// The number of different lengths. All longer places count as having the last length.
const LENGTHS: usize = u64::BITS as usize;

/// The position of a length in a set of lengths.
fn position(length: usize) -> usize {
    length.min(LENGTHS - 1)
}

impl PlaceFilter {
    /// True if a subscriber watches every key.
    #[inline]
    pub(super) fn has_root(&self) -> bool {
        self.has_root.load(Ordering::Acquire)
    }

    /// Calls `visit` with the text and the hash of each place that may be subscribed and that covers the key. Leaves
    /// out no such place.
    #[inline]
    pub(super) fn visit(&self, key: &str, mut visit: impl FnMut(&str, u64)) {
        let (keys, prefixes) = (self.keys.load(Ordering::Acquire), self.prefixes.load(Ordering::Acquire));
        if keys | prefixes == 0 {
            return;
        }
        let mut check = |length: usize| {
            let text = key.get(..length).unwrap_or(key);
            let hash = hash(text.as_bytes());
            if self.bloom.may_contain(hash) {
                visit(text, hash);
            }
        };
        let own = position(key.len());
        if (keys | prefixes) >> own & 1 == 1 {
            check(key.len());
        }
        // The positions below `own`: prefixes that are shorter than the key.
        let mut shorter = prefixes & ((1 << own) - 1);
        while shorter != 0 {
            let length = shorter.trailing_zeros() as usize;
            shorter &= shorter - 1;
            if key.as_bytes().get(length) == Some(&SEPARATOR) {
                check(length);
            }
        }
        // The last position stands for many lengths.
        if prefixes >> (LENGTHS - 1) == 1 {
            let rest = key.as_bytes().iter().enumerate().skip(LENGTHS - 1);
            rest.filter(|(_, byte)| **byte == SEPARATOR).for_each(|(length, _)| check(length));
        }
    }
}

const SEPARATOR: u8 = encoding::SEPARATOR as u8;

/// The numbers of subscribed places, from which a removal finds out what the filter still needs.
#[derive(Debug)]
pub(super) struct Counts {
    roots: usize,
    places: usize,
    keys: [usize; LENGTHS],
    prefixes: [usize; LENGTHS],
    /// The number of places that set each bit of the Bloom filter. A number that has reached the maximum stays there,
    /// and its bit stays set.
    bits: Vec<u8>,
}

impl Default for Counts {
    fn default() -> Self {
        Self { roots: 0, places: 0, keys: [0; LENGTHS], prefixes: [0; LENGTHS], bits: Vec::new() }
    }
}

impl Counts {
    /// Adds the place that covers every key.
    pub(super) fn add_root(&mut self, filter: &PlaceFilter) {
        self.roots += 1;
        filter.has_root.store(true, Ordering::Release);
    }

    /// Removes the place that covers every key.
    pub(super) fn remove_root(&mut self, filter: &PlaceFilter) {
        self.roots = self.roots.saturating_sub(1);
        filter.has_root.store(self.roots > 0, Ordering::Release);
    }

    /// Adds a place. `all` calls its argument with the hash of every subscribed place, including this one.
    pub(super) fn add(&mut self, filter: &PlaceFilter, kind: Kind, text: &str, all: impl FnOnce(&mut dyn FnMut(u64))) {
        self.places += 1;
        if self.places > filter.bloom.capacity() {
            // Fill the larger filter before readers use it.
            let level = filter.bloom.level.load(Ordering::Acquire) + 1;
            if let Some(words) = filter.bloom.allocate(level) {
                self.bits = vec![0; words.len() * WORD_BITS];
                all(&mut |hash| self.set_bits(words, hash));
                filter.bloom.level.store(level, Ordering::Release);
            } else {
                self.set_bits(filter.bloom.words(), hash(text.as_bytes()));
            }
        } else {
            self.set_bits(filter.bloom.words(), hash(text.as_bytes()));
        }
        let (counts, lengths) = self.lengths(filter, kind);
        if let Some(count) = counts.get_mut(position(text.len())) {
            *count += 1;
        }
        lengths.fetch_or(1 << position(text.len()), Ordering::Release);
    }

    /// Removes a place.
    pub(super) fn remove(&mut self, filter: &PlaceFilter, kind: Kind, text: &str) {
        self.places = self.places.saturating_sub(1);
        let (counts, lengths) = self.lengths(filter, kind);
        if let Some(count) = counts.get_mut(position(text.len())) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                lengths.fetch_and(!(1 << position(text.len())), Ordering::Release);
            }
        }
        let words = filter.bloom.words();
        let (word, bits) = bits(words.len(), hash(text.as_bytes()));
        for bit in bits {
            if let Some(count) = self.bits.get_mut(word * WORD_BITS + bit).filter(|count| **count < u8::MAX) {
                *count = count.saturating_sub(1);
                if let (0, Some(word)) = (*count, words.get(word)) {
                    word.fetch_and(!(1 << bit), Ordering::Release);
                }
            }
        }
    }

    fn set_bits(&mut self, words: &[AtomicU64], hash: u64) {
        let (word, bits) = bits(words.len(), hash);
        for bit in bits {
            if let (Some(count), Some(word)) = (self.bits.get_mut(word * WORD_BITS + bit), words.get(word)) {
                *count = count.saturating_add(1);
                word.fetch_or(1 << bit, Ordering::Release);
            }
        }
    }

    fn lengths<'f>(&mut self, filter: &'f PlaceFilter, kind: Kind) -> (&mut [usize; LENGTHS], &'f AtomicU64) {
        match kind {
            Kind::Key => (&mut self.keys, &filter.keys),
            Kind::Prefix => (&mut self.prefixes, &filter.prefixes),
        }
    }
}

const WORD_BITS: usize = u64::BITS as usize;

/// A Bloom filter with three bits for each place. They are in one word, so that a reader loads one word.
///
/// The filter grows with the number of places. A smaller level stays allocated, because a reader may still read it. All
/// levels together take at most twice the space of the largest level.
#[derive(Debug, Default)]
struct Bloom {
    /// The level that readers use.
    level: AtomicUsize,
    levels: [OnceLock<Box<[AtomicU64]>>; LEVELS],
}

/// The number of levels. Level 0 is empty, and each level is twice as large as the level below it.
const LEVELS: usize = 18;
/// The number of words of level 1.
const MIN_WORDS: usize = 16;
/// The number of bits for each place in a full level. One key in 30 passes a full level although no place covers it. More
/// bits would not fit into the cache of a processor.
const BITS_PER_PLACE: usize = 8;

impl Bloom {
    #[inline]
    fn words(&self) -> &[AtomicU64] {
        self.levels.get(self.level.load(Ordering::Acquire)).and_then(OnceLock::get).map_or(&[], |words| words)
    }

    /// The number of places in a full level.
    fn capacity(&self) -> usize {
        self.words().len() * WORD_BITS / BITS_PER_PLACE
    }

    /// Allocates a level; `None` if the largest level is in use.
    fn allocate(&self, level: usize) -> Option<&[AtomicU64]> {
        let words = MIN_WORDS << level.saturating_sub(1);
        Some(self.levels.get(level)?.get_or_init(|| (0..words).map(|_| AtomicU64::new(0)).collect()))
    }

    #[inline]
    fn may_contain(&self, hash: u64) -> bool {
        let words = self.words();
        let (word, [first, second, third]) = bits(words.len(), hash);
        let mask = 1 << first | 1 << second | 1 << third;
        words.get(word).is_some_and(|word| word.load(Ordering::Acquire) & mask == mask)
    }
}

/// The word of a hash, and the bits in this word, in a level with this number of words, which is a power of two or zero.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the hash is reduced to positions")]
fn bits(words: usize, hash: u64) -> (usize, [usize; 3]) {
    let word = (hash >> 40) as usize & words.wrapping_sub(1);
    (word, [0, 6, 12].map(|shift| (hash >> shift) as usize % WORD_BITS))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::key::Key;

    /// A filter with its counts, and the places that it should contain.
    #[derive(Default)]
    struct Checked {
        filter: PlaceFilter,
        counts: Counts,
        places: Vec<(Kind, Key)>,
    }

    impl Checked {
        fn add(&mut self, kind: Kind, key: &Key) {
            self.places.push((kind, key.clone()));
            let places = &self.places;
            self.counts.add(&self.filter, kind, key.as_str(), |each| {
                for (_, key) in places {
                    each(hash(key.as_str().as_bytes()));
                }
            });
        }

        fn remove(&mut self, at: usize) {
            let (kind, key) = self.places.swap_remove(at);
            self.counts.remove(&self.filter, kind, key.as_str());
        }

        fn visited(&self, key: &Key) -> Vec<String> {
            let mut visited = Vec::new();
            self.filter.visit(key.as_str(), |text, _| visited.push(text.to_owned()));
            visited
        }
    }

    fn keys() -> impl Strategy<Value = Key> {
        proptest::collection::vec("[ab]{0,40}", 1..5).prop_map(|segments| Key::new(segments).unwrap())
    }

    proptest! {
        #[test]
        fn a_place_that_covers_the_key_is_always_visited(
            places in proptest::collection::vec((any::<bool>(), keys()), 0..40),
            removals in proptest::collection::vec(any::<prop::sample::Index>(), 0..30),
            written in proptest::collection::vec(keys(), 1..20),
        ) {
            let mut checked = Checked::default();
            for (is_key, key) in &places {
                let kind = if *is_key { Kind::Key } else { Kind::Prefix };
                if !checked.places.contains(&(kind, key.clone())) {
                    checked.add(kind, key);
                }
            }
            for removal in removals {
                if !checked.places.is_empty() {
                    checked.remove(removal.index(checked.places.len()));
                }
            }
            for key in written.iter().chain(places.iter().map(|(_, key)| key)) {
                let visited = checked.visited(key);
                for (kind, place) in &checked.places {
                    let covers = match kind {
                        Kind::Key => place == key,
                        Kind::Prefix => crate::key::KeyPrefix::from(place).covers(key),
                    };
                    prop_assert!(!covers || visited.iter().any(|text| text == place.as_str()), "{place} of {key}");
                }
            }
        }
    }

    #[test]
    fn most_keys_beside_the_places_are_ruled_out_and_an_empty_filter_rules_out_all() {
        let mut checked = Checked::default();
        let key = |kind: &str, number: usize| Key::new(["users", &format!("{kind}{number:06}"), "x"]).unwrap();
        let passing = |checked: &Checked| (0..10_000).filter(|at| !checked.visited(&key("w", *at)).is_empty()).count();
        for at in 0..20_000 {
            let kind = if at % 2 == 0 { Kind::Key } else { Kind::Prefix };
            checked.add(kind, &if at % 2 == 0 { key("k", at) } else { key("k", at).parent().unwrap() });
        }
        let beside = passing(&checked);
        assert!(beside < 300, "{beside} of 10,000 keys pass");
        while !checked.places.is_empty() {
            checked.remove(checked.places.len() / 2);
        }
        assert_eq!(passing(&checked), 0);
        assert!((0..20_000).all(|at| checked.visited(&key("k", at)).is_empty()));
        assert!(checked.filter.bloom.words().iter().all(|word| word.load(Ordering::Acquire) == 0));
    }
}
