//! A generated data set of production size. It is in the store while a workload is replayed.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use anykv::{Bytes, Expiry, Key, KeyPrefix, KvStore, Result, SetItem, SetOptions};
use futures_util::future::try_join_all;
use futures_util::{StreamExt, stream};

use crate::progress::Progress;
use crate::random::Random;

/// A data set with the numbers and sizes of the entries in production stores of the recorded framework. The keys belong
/// to the same families as the keys of the recording, and have host names that the recording does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefill {
    seed: u64,
    public_keys: u64,
    small_strings: u64,
    documents: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    PublicKeys,
    SmallStrings,
    Documents,
}

impl Family {
    const ALL: [Self; 3] = [Self::PublicKeys, Self::SmallStrings, Self::Documents];

    fn root(self) -> [&'static str; 2] {
        let name = match self {
            Self::PublicKeys => "publicKey",
            Self::SmallStrings => "httpMessageSignaturesSpec",
            Self::Documents => "remoteDocument",
        };
        ["_fedify", name]
    }

    fn last_segment(self, index: u64) -> String {
        match self {
            Self::PublicKeys => format!("https://h{}.prefill.example/users/u{index:07}#main-key", index % 997),
            Self::SmallStrings => format!("https://h{index:07}.prefill.example"),
            Self::Documents => format!("https://h{}.prefill.example/notes/{index:07}", index % 997),
        }
    }

    fn key(self, index: u64) -> Result<Key> {
        let [first, second] = self.root();
        Key::new([first, second, &self.last_segment(index)])
    }

    /// Parses the index, the last digits of the last segment.
    fn index_of(self, segment: &str) -> Option<u64> {
        let digits = match self {
            Self::PublicKeys => segment.strip_suffix("#main-key")?.rsplit_once("/u")?.1,
            Self::SmallStrings => segment.strip_prefix("https://h")?.strip_suffix(".prefill.example")?,
            Self::Documents => segment.rsplit_once('/')?.1,
        };
        digits.parse().ok().filter(|&index| self.last_segment(index) == segment)
    }

    fn expiry(self) -> Expiry {
        match self {
            Self::Documents => Expiry::After(Duration::from_secs(30 * 86_400)),
            Self::PublicKeys | Self::SmallStrings => Expiry::Never,
        }
    }
}

impl Prefill {
    const BATCH_ITEMS: usize = 200;
    const BATCHES_IN_FLIGHT: usize = 4;

    /// Returns the full data set: 200,000 public keys of 0.6 to 1 KB, 15,000 small strings and 100,000 documents of 6
    /// KB.
    pub fn production(seed: u64) -> Self {
        Self { seed, public_keys: 200_000, small_strings: 15_000, documents: 100_000 }
    }

    /// Scales the number of entries of each family, rounded up.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of entries, rounded up")]
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    pub fn scaled(self, factor: f64) -> Self {
        let scale = |count: u64| (count as f64 * factor).ceil() as u64;
        let Self { seed, public_keys, small_strings, documents } = self;
        Self { seed, public_keys: scale(public_keys), small_strings: scale(small_strings), documents: scale(documents) }
    }

    /// Returns the number of entries.
    pub fn len(&self) -> u64 {
        Family::ALL.iter().map(|&family| self.count(family)).sum()
    }

    /// True if there are no entries.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes every entry.
    pub(super) async fn load(self, store: &Arc<dyn KvStore>, progress: &Progress) -> Result<()> {
        let batches = stream::iter(self.entries()).chunks(Self::BATCH_ITEMS);
        let mut groups = batches.chunks(Self::BATCHES_IN_FLIGHT);
        while let Some(group) = groups.next().await {
            try_join_all(group.into_iter().map(|entries| self.write(store, entries, progress))).await?;
            // A call on a memory store never waits. Yield, so that an interrupt is noticed. The yield is outside of
            // `try_join_all`, which may poll woken futures again without returning.
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    async fn write(self, store: &Arc<dyn KvStore>, entries: Vec<(Family, u64)>, progress: &Progress) -> Result<()> {
        let item = |(family, index): (Family, u64)| {
            let options = SetOptions::default().with_expiry(family.expiry());
            Ok(SetItem::new(family.key(index)?, self.value(family, index)).with_options(options))
        };
        let items: Vec<SetItem> = entries.into_iter().map(item).collect::<Result<_>>()?;
        for outcome in store.set_many(&items).await {
            // A write without a condition is never refused.
            let _ = outcome?;
        }
        progress.advance(items.len());
        Ok(())
    }

    /// Deletes every entry, for a store that cannot list and clear.
    pub(super) async fn remove(self, store: &Arc<dyn KvStore>) -> Result<()> {
        let mut batches = stream::iter(self.entries()).chunks(Self::BATCH_ITEMS);
        while let Some(entries) = batches.next().await {
            let keys: Vec<Key> = entries.into_iter().map(|(family, index)| family.key(index)).collect::<Result<_>>()?;
            for outcome in store.delete_many(&keys).await {
                let _ = outcome?;
            }
        }
        Ok(())
    }

    /// Returns the value of a key, if the key belongs to this data set.
    pub(super) fn value_of(self, key: &Key) -> Option<Bytes> {
        let segments: Vec<_> = key.segments().collect();
        let [first, second, last] = &segments[..] else { return None };
        let family = Family::ALL.into_iter().find(|family| family.root() == [first.as_ref(), second.as_ref()])?;
        let index = family.index_of(last).filter(|&index| index < self.count(family))?;
        Some(self.value(family, index))
    }

    /// Returns the number of entries under a prefix.
    pub(super) fn count_under(self, prefix: &KeyPrefix) -> u64 {
        let in_family = |family: Family| match Key::new(family.root()) {
            Ok(root) if prefix.covers(&root) => self.count(family),
            _ => 0,
        };
        let single = u64::from(prefix.to_key().is_some_and(|key| self.value_of(&key).is_some()));
        Family::ALL.into_iter().map(in_family).sum::<u64>() + single
    }

    fn count(&self, family: Family) -> u64 {
        match family {
            Family::PublicKeys => self.public_keys,
            Family::SmallStrings => self.small_strings,
            Family::Documents => self.documents,
        }
    }

    /// Returns the family and index of each entry.
    fn entries(self) -> impl Iterator<Item = (Family, u64)> + Send {
        Family::ALL.into_iter().flat_map(move |family| (0..self.count(family)).map(move |index| (family, index)))
    }

    /// Returns the JSON text of an entry. The text has random characters, so that values are distinct and compress
    /// badly.
    fn value(self, family: Family, index: u64) -> Bytes {
        let mut random = Random::new(self.seed ^ (index << 2) ^ family as u64);
        let bytes = match family {
            Family::PublicKeys => 600 + random.next() % 401,
            Family::SmallStrings => return Bytes::from_static(small_string(random.next())),
            Family::Documents => 5_700 + random.next() % 601,
        };
        let mut text = String::with_capacity(usize::try_from(bytes).unwrap_or_default());
        // Writing to a string does not fail.
        let _ = write!(text, r#"{{"@id":"{}","content":""#, family.last_segment(index));
        let padding = bytes.saturating_sub(text.len() as u64 + 2);
        write_characters(&mut random, &mut text, padding);
        text.push_str("\"}");
        Bytes::from(text)
    }
}

fn small_string(random: u64) -> &'static [u8] {
    if random.is_multiple_of(2) { br#""rfc9421""# } else { br#""draft-cavage-http-signatures-12""# }
}

/// Appends `count` random characters of the base64 alphabet, ten from each random number.
fn write_characters(random: &mut Random, text: &mut String, count: u64) {
    const CHARACTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bits = 0;
    for index in 0..count {
        bits = if index % 10 == 0 { random.next() } else { bits >> 6 };
        let character = CHARACTERS.get((bits & 63) as usize);
        text.push(character.copied().map_or('A', char::from));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_its_entries_and_they_have_production_size() {
        let prefill = Prefill::production(7);
        assert_eq!(prefill.len(), 315_000);
        assert_eq!(prefill.scaled(0.1).len(), 31_500);
        for index in [0, 1, 99_999] {
            let (key, document) = (prefill.value(Family::PublicKeys, index), prefill.value(Family::Documents, index));
            assert!((600..=1_000).contains(&key.len()) && (5_700..=6_300).contains(&document.len()));
            assert_eq!(key, Prefill::production(7).value(Family::PublicKeys, index));
            assert_ne!(key, Prefill::production(8).value(Family::PublicKeys, index));
            assert!(serde_json::from_slice::<serde_json::Value>(&document).is_ok());
        }
    }

    #[test]
    fn each_loaded_entry_is_found_by_its_key() {
        let prefill = Prefill::production(1).scaled(0.001);
        for (family, index) in prefill.entries() {
            let key = family.key(index).unwrap();
            assert_eq!(prefill.value_of(&key).unwrap(), prefill.value(family, index), "{key}");
        }
        assert_eq!(prefill.value_of(&Family::Documents.key(100).unwrap()), None);
        let under = |segments: &[&str]| prefill.count_under(&KeyPrefix::new(segments).unwrap());
        assert_eq!((under(&[]), under(&["_fedify"]), under(&["_fedify", "publicKey"])), (315, 315, 200));
        assert_eq!((under(&["_fedify", "circuit"]), under(&["x"])), (0, 0));
        assert_eq!(under(&["_fedify", "remoteDocument", &Family::Documents.last_segment(5)]), 1);
    }
}
