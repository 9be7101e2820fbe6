//! Which keys anybody asks for, in one word.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::key::{Key, KeyPrefix};

/// A word that says of most keys under no subscribed prefix that nobody asks for them.
///
/// So a writer pays one load and a little arithmetic for those who watch something else, and no lock that all writers share.
/// The low byte is a length: that of the shortest prefix, or less. Above it is a set of hashes of so many first bytes of each
/// prefix. Both are in one word, because a length and a set of two moments could miss a subscriber.
#[derive(Debug, Default)]
pub(crate) struct PrefixFilter(AtomicU64);

/// More bytes than these are not looked at.
const MAX_BYTES: usize = 16;

/// What is above the length: as many hashes as there are.
const LENGTH_BITS: u32 = 8;
const HASHES: u64 = (u64::BITS - LENGTH_BITS) as u64;

impl PrefixFilter {
    /// Sets the prefixes that are asked for.
    pub(crate) fn set<'p>(&self, prefixes: impl Iterator<Item = &'p KeyPrefix> + Clone) {
        let texts = prefixes.map(|prefix| prefix.as_str().unwrap_or_default().as_bytes());
        let length = texts.clone().map(<[u8]>::len).min().unwrap_or_default().min(MAX_BYTES);
        let word = texts.filter_map(|text| text.get(..length)).fold(length as u64, |word, head| word | bit(head));
        self.0.store(if word == length as u64 { 0 } else { word }, Ordering::Release);
    }

    /// Whether anything is asked for.
    pub(crate) fn is_any(&self) -> bool {
        self.0.load(Ordering::Acquire) != 0
    }

    /// Whether somebody may ask for the key: always where a prefix covers it.
    pub(crate) fn may_be_for(&self, key: &Key) -> bool {
        let word = self.0.load(Ordering::Acquire);
        if word == 0 {
            return false;
        }
        let [length, ..] = word.to_le_bytes();
        // A shorter key is under no prefix.
        key.as_str().as_bytes().get(..usize::from(length)).is_some_and(|head| word & bit(head) != 0)
    }
}

/// The place of these bytes in the set.
fn bit(head: &[u8]) -> u64 {
    let mix = |hash: u64, word: u64| (hash.rotate_left(32) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let hash = words(head).into_iter().fold(0, mix) >> 32;
    1 << (hash % HASHES + u64::from(LENGTH_BITS))
}

/// All of up to sixteen bytes, the middle ones twice: whole words are read from where they are, for bytes that were put together
/// into a word have to be waited for.
fn words(head: &[u8]) -> [u64; 2] {
    if let (Some(first), Some(last)) = (head.first_chunk::<8>(), head.last_chunk::<8>()) {
        [*first, *last].map(u64::from_le_bytes)
    } else if let (Some(first), Some(last)) = (head.first_chunk::<4>(), head.last_chunk::<4>()) {
        [*first, *last].map(|word| u32::from_le_bytes(word).into())
    } else {
        [0, head.iter().fold(0, |word, byte| word << 8 | u64::from(*byte))]
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
        fn no_key_under_a_prefix_is_passed_over(
            prefixes in proptest::collection::vec(segments(), 0..5),
            keys in proptest::collection::vec(segments(), 1..20),
        ) {
            let prefixes: Vec<_> = prefixes.iter().map(|prefix| KeyPrefix::new(prefix).unwrap()).collect();
            let filter = PrefixFilter::default();
            filter.set(prefixes.iter());
            prop_assert_eq!(filter.is_any(), !prefixes.is_empty());
            for key in keys.iter().filter_map(|key| Key::new(key).ok()) {
                let is_covered = prefixes.iter().any(|prefix| prefix.covers(&key));
                prop_assert!(filter.may_be_for(&key) || !is_covered, "{}", key);
            }
        }
    }

    #[test]
    fn most_keys_elsewhere_are_passed_over() {
        let filter = PrefixFilter::default();
        filter.set([KeyPrefix::new(["elsewhere"]).unwrap(), KeyPrefix::new(["far", "away"]).unwrap()].iter());
        let keys =
            (0..1_000).map(|number| Key::new([Key::ordered(number).as_str().trim_start_matches('0'), "x"]).unwrap());
        assert!(keys.filter(|key| filter.may_be_for(key)).count() < 200);
    }
}
