//! A one-word Bloom filter over subscribed prefixes.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::key::{Key, KeyPrefix};

/// A filter in one atomic word that rules out most keys that no subscribed prefix covers.
///
/// A write of such a key costs one load and a little arithmetic, and takes no lock that all writers share. The low byte
/// of the word is a length: the number of bytes in the shortest prefix, at most [`MAX_BYTES`]. The other bits are a set
/// of hashes. For each prefix, the set contains the hash of as many first bytes as the length says. Length and set
/// share one word: if they were loaded separately, a concurrent update could hide a subscriber.
#[derive(Debug, Default)]
pub(crate) struct PrefixFilter(AtomicU64);

/// The maximum number of bytes of a prefix or key that are hashed.
const MAX_BYTES: usize = 16;

/// The low bits of the word that store the length. Each of the other bits stands for one hash.
const LENGTH_BITS: u32 = 8;
/// The number of different hashes, one for each bit of the set.
const HASHES: u64 = (u64::BITS - LENGTH_BITS) as u64;

impl PrefixFilter {
    /// Replaces the subscribed prefixes.
    pub(crate) fn set<'p>(&self, prefixes: impl Iterator<Item = &'p KeyPrefix> + Clone) {
        let texts = prefixes.map(|prefix| prefix.as_str().unwrap_or_default().as_bytes());
        let length = texts.clone().map(<[u8]>::len).min().unwrap_or_default().min(MAX_BYTES);
        let word = texts.filter_map(|text| text.get(..length)).fold(length as u64, |word, leading| word | bit(leading));
        self.0.store(if word == length as u64 { 0 } else { word }, Ordering::Release);
    }

    /// True if there is a subscribed prefix.
    pub(crate) fn has_prefixes(&self) -> bool {
        self.0.load(Ordering::Acquire) != 0
    }

    /// True if a subscribed prefix may cover the key. Never false for a key that a subscribed prefix covers.
    pub(crate) fn may_cover(&self, key: &Key) -> bool {
        let word = self.0.load(Ordering::Acquire);
        if word == 0 {
            return false;
        }
        let [length, ..] = word.to_le_bytes();
        // A key shorter than `length` is shorter than every prefix.
        key.as_str().as_bytes().get(..usize::from(length)).is_some_and(|leading| word & bit(leading) != 0)
    }
}

/// The bit of the set that stands for these bytes.
fn bit(leading: &[u8]) -> u64 {
    let mix = |hash: u64, word: u64| (hash.rotate_left(32) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let hash = words(leading).into_iter().fold(0, mix) >> 32;
    1 << (hash % HASHES + u64::from(LENGTH_BITS))
}

/// Returns up to sixteen bytes as two words, which overlap if there are fewer than sixteen bytes. Each word is loaded
/// directly from the text, because assembling the word in a buffer would stall the load that follows the byte stores.
fn words(leading: &[u8]) -> [u64; 2] {
    if let (Some(first), Some(last)) = (leading.first_chunk::<8>(), leading.last_chunk::<8>()) {
        [*first, *last].map(u64::from_le_bytes)
    } else if let (Some(first), Some(last)) = (leading.first_chunk::<4>(), leading.last_chunk::<4>()) {
        [*first, *last].map(|word| u32::from_le_bytes(word).into())
    } else {
        [0, leading.iter().fold(0, |word, byte| word << 8 | u64::from(*byte))]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn segments() -> impl Strategy<Value = Vec<String>> {
        proptest::collection::vec("[ab]{0,9}", 0..4)
    }

    proptest! {
        #[test]
        fn a_key_under_a_prefix_always_passes(
            prefixes in proptest::collection::vec(segments(), 0..5),
            keys in proptest::collection::vec(segments(), 1..20),
        ) {
            let prefixes: Vec<_> = prefixes.iter().map(|prefix| KeyPrefix::new(prefix).unwrap()).collect();
            let filter = PrefixFilter::default();
            filter.set(prefixes.iter());
            prop_assert_eq!(filter.has_prefixes(), !prefixes.is_empty());
            for key in keys.iter().filter_map(|key| Key::new(key).ok()) {
                let is_covered = prefixes.iter().any(|prefix| prefix.covers(&key));
                prop_assert!(filter.may_cover(&key) || !is_covered, "{}", key);
            }
        }
    }

    #[test]
    fn most_other_keys_are_ruled_out() {
        let filter = PrefixFilter::default();
        filter.set([KeyPrefix::new(["elsewhere"]).unwrap(), KeyPrefix::new(["far", "away"]).unwrap()].iter());
        let keys =
            (0..1_000).map(|number| Key::new([Key::ordered(number).as_str().trim_start_matches('0'), "x"]).unwrap());
        assert!(keys.filter(|key| filter.may_cover(key)).count() < 200);
    }
}
