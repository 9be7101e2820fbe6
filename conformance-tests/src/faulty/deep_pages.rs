//! Lists and clears that end too early or mix up keys: after many expired entries, beyond U+FFFF, or with long equal
//! beginnings of keys.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use kv_core::{
    Clock, Entry, Expires, Key, KeyPrefix, KvStore, ListItem, ListPage, ListQuery, Result, SetItem, SetOptions,
    SetOutcome, delegate_store,
};

use super::faults;
use super::hidden::Hidden;
use super::scan;

faults! { deep_pages:
    /// Reads 500 records for a page and ends the list if all of them have expired.
    list_ends_at_expired_records: "L-1"
        ["long_lists/behind_expired_entries"]
        |inner, clock| ExpiredRecords { inner, clock, deadlines: Hidden::default(), of: Call::List };
    /// Reads 500 records at a time in `clear`, and stops if all of them have expired.
    clear_ends_at_expired_records: "L-5"
        ["long_lists/clear_behind_expired_entries"]
        |inner, clock| ExpiredRecords { inner, clock, deadlines: Hidden::default(), of: Call::Clear };
    /// Takes the prefix and U+FFFF for the end of the prefix in a reversed list, so that children with an emoji are
    /// omitted.
    reversed_prefix_ends_at_ffff: "L-1"
        ["long_lists/beyond_ffff", "namespace_keys/are_listed"]
        |inner, _clock| Omitting { inner, omits: |query, key| query.reverse && is_beyond_ffff(&query.prefix, key) };
    /// Takes the prefix and U+FFFF for the end of the prefix in `clear`.
    cleared_prefix_ends_at_ffff: "L-5"
        ["long_lists/clear_beyond_ffff"]
        |inner, _clock| ClearsUpToFfff { inner };
    /// Compares only the first 512 bytes of a key when a list resumes, and so skips keys with the same beginning.
    resumes_after_the_first_512_bytes: "L-1"
        ["namespace_keys/are_listed", "long_lists/long_beginnings"]
        |inner, _clock| Omitting { inner, omits: |query, key| {
            let beginning = |key: &Key| key.as_str().as_bytes().get(..512).map(<[u8]>::to_vec);
            let bound = if query.reverse { &query.before } else { &query.after };
            bound.as_ref().is_some_and(|bound| beginning(bound).is_some() && beginning(bound) == beginning(key))
        } };
    /// Sorts keys by their first 512 bytes only, as an index over a prefix of a column does.
    sorts_by_the_first_512_bytes: "K-3"
        ["long_lists/long_beginnings"]
        |inner, _clock| SortsBeginnings { inner };
    /// Clears by the first 512 bytes of a prefix.
    clear_compares_512_bytes: "L-5"
        ["long_lists/long_beginnings_are_cleared"]
        |inner, _clock| ClearsBeginnings { inner };
    /// Collects the results of `get_many` in a map by the first 512 bytes of the keys.
    batches_are_joined_by_512_bytes: "B-1"
        ["large_batches/long_keys_with_one_beginning"]
        |inner, _clock| JoinsBatches { inner };
    /// Ends a reversed list after a thousand keys.
    reversed_lists_end_at_a_thousand: "L-1"
        ["long_lists/thousands_reversed", "long_lists/thousands_below_a_prefix"]
        |inner, _clock| TruncatedLists { inner, applies: |query| query.reverse };
    /// Ends a list with values after a thousand keys, because only a list of keys continues after its first page.
    lists_of_values_end_at_a_thousand: "L-1"
        ["long_lists/thousands_of_values"]
        |inner, _clock| TruncatedLists { inner, applies: |query| !query.keys_only };
    /// Ends a page after a thousand keys, even if its limit is larger.
    pages_end_at_a_thousand: "L-3"
        ["long_lists/pages_are_full"]
        |inner, _clock| ShortPages { inner };
    /// Returns true from `contains` for a key that only has descendants, as a file system does with folders.
    contains_finds_folders: "K-1"
        ["keys/dots"]
        |inner, _clock| Folders { inner };
    /// Includes the key itself in a list of the descendants of a key, if only keys are requested.
    keys_only_lists_include_the_own_key: "L-5"
        ["namespaces/list_leaves_out_the_key_around"]
        |inner, _clock| OwnKeyListed { inner };
}

/// The operation that ends at expired records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    List,
    Clear,
}

#[derive(Debug)]
struct ExpiredRecords {
    inner: Arc<dyn KvStore>,
    clock: Arc<dyn Clock>,
    /// The deadlines of the records that were not removed.
    deadlines: Hidden<HashMap<Key, SystemTime>>,
    of: Call,
}

impl ExpiredRecords {
    const RECORDS: usize = 500;

    async fn record(&self, key: &Key) -> Result<()> {
        let found = self.inner.get(key).await?;
        let mut deadlines = self.deadlines.lock();
        match found.map(|entry| entry.expires) {
            Some(Expires::At(deadline)) => deadlines.insert(key.clone(), deadline),
            _ => deadlines.remove(key),
        };
        Ok(())
    }

    /// True if the first records that a query reads have all expired.
    fn are_expired(&self, query: &ListQuery, live: Option<&Key>) -> bool {
        let now = self.clock.now();
        let is_before_live = |key: &Key| live.is_none_or(|live| if query.reverse { key > live } else { key < live });
        let deadlines = self.deadlines.lock();
        let expired = deadlines.iter().filter(|(key, deadline)| {
            **deadline <= now
                && query.prefix.covers(key)
                && query.after.as_ref().is_none_or(|after| *key > after)
                && query.before.as_ref().is_none_or(|before| *key < before)
                && is_before_live(key)
        });
        expired.count() >= Self::RECORDS
    }
}

#[async_trait]
impl KvStore for ExpiredRecords {
    delegate_store!(self.inner, except set set_many list clear sweep);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        let outcome = self.inner.set(key, value, options).await?;
        self.record(key).await?;
        Ok(outcome)
    }

    async fn set_many(&self, items: &[SetItem]) -> Vec<Result<SetOutcome>> {
        let outcomes = self.inner.set_many(items).await;
        for (item, _) in items.iter().zip(&outcomes).filter(|(_, outcome)| outcome.is_ok()) {
            // The error is ignored, because without the record the store only behaves correctly for this key.
            let _ = self.record(&item.key).await;
        }
        outcomes
    }

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        let mut page = self.inner.list(query).await?;
        if self.of == Call::List && self.are_expired(query, page.items.first().map(|item| &item.key)) {
            page = ListPage::default();
        }
        Ok(page)
    }

    async fn clear(&self, prefix: &KeyPrefix) -> Result<u64> {
        let query = ListQuery::new(prefix.clone()).with_limit(1);
        // The number of expired records is tested first, because the first live entry matters only if there are so
        // many.
        let stops = self.of == Call::Clear
            && self.are_expired(&query, None)
            && self.are_expired(&query, self.inner.list(&query).await?.items.first().map(|item| &item.key));
        self.deadlines.lock().retain(|key, _| !prefix.covers(key));
        if stops { Ok(0) } else { self.inner.clear(prefix).await }
    }

    async fn sweep(&self) -> Result<u64> {
        let now = self.clock.now();
        self.deadlines.lock().retain(|_, deadline| *deadline > now);
        self.inner.sweep().await
    }
}

/// True for a key below the prefix whose next segment begins with a character beyond U+FFFF.
fn is_beyond_ffff(prefix: &KeyPrefix, key: &Key) -> bool {
    let Some(text) = prefix.as_str() else { return false };
    let rest = key.as_str().strip_prefix(text).unwrap_or_default();
    rest.chars().nth(1).is_some_and(|first| first > '\u{ffff}')
}

/// Omits the keys for which `omits` returns true from pages.
struct Omitting {
    inner: Arc<dyn KvStore>,
    omits: fn(&ListQuery, &Key) -> bool,
}

impl fmt::Debug for Omitting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Omitting").finish_non_exhaustive()
    }
}

#[async_trait]
impl KvStore for Omitting {
    delegate_store!(self.inner, except list);

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        let mut page = self.inner.list(query).await?;
        page.items.retain(|item| !(self.omits)(query, &item.key));
        Ok(page)
    }
}

#[derive(Debug)]
struct ClearsUpToFfff {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for ClearsUpToFfff {
    delegate_store!(self.inner, except clear);

    async fn clear(&self, prefix: &KeyPrefix) -> Result<u64> {
        if prefix.is_all() {
            return self.inner.clear(prefix).await;
        }
        scan::clear(&*self.inner, |key| prefix.covers(key) && !is_beyond_ffff(prefix, key)).await
    }
}

#[derive(Debug)]
struct SortsBeginnings {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for SortsBeginnings {
    delegate_store!(self.inner, except list);

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        let mut page = self.inner.list(query).await?;
        // The reverse order stands for the random order of keys with the same beginning.
        for same in page.items.chunk_by_mut(|one, other| beginning(&one.key) == beginning(&other.key)) {
            if same.first().is_some_and(|item| item.key.as_str().len() > 512) {
                same.reverse();
            }
        }
        Ok(page)
    }
}

#[derive(Debug)]
struct ClearsBeginnings {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for ClearsBeginnings {
    delegate_store!(self.inner, except clear);

    async fn clear(&self, prefix: &KeyPrefix) -> Result<u64> {
        match prefix.to_key() {
            Some(own) if own.as_str().len() > 512 => {
                scan::clear(&*self.inner, |key| beginning(key) == beginning(&own)).await
            }
            _ => self.inner.clear(prefix).await,
        }
    }
}

fn beginning(key: &Key) -> &[u8] {
    let bytes = key.as_str().as_bytes();
    bytes.get(..512).unwrap_or(bytes)
}

#[derive(Debug)]
struct JoinsBatches {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for JoinsBatches {
    delegate_store!(self.inner, except get_many);

    async fn get_many(&self, keys: &[Key]) -> Vec<Result<Option<Entry>>> {
        let mut found = HashMap::new();
        for (key, entry) in keys.iter().zip(self.inner.get_many(keys).await) {
            match entry {
                Ok(entry) => found.insert(beginning(key), entry),
                Err(_) => return self.inner.get_many(keys).await,
            };
        }
        keys.iter().map(|key| Ok(found.get(beginning(key)).cloned().flatten())).collect()
    }
}

/// Ends the lists that `applies` accepts after a thousand keys.
struct TruncatedLists {
    inner: Arc<dyn KvStore>,
    applies: fn(&ListQuery) -> bool,
}

impl fmt::Debug for TruncatedLists {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TruncatedLists").finish_non_exhaustive()
    }
}

#[async_trait]
impl KvStore for TruncatedLists {
    delegate_store!(self.inner, except list);

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        let mut page = self.inner.list(query).await?;
        if (self.applies)(query) && page.items.len() > 1_000 {
            page.items.truncate(1_000);
            page.next = None;
        }
        Ok(page)
    }
}

#[derive(Debug)]
struct ShortPages {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for ShortPages {
    delegate_store!(self.inner, except list);

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        let limit = query.limit.unwrap_or(usize::MAX).min(1_000);
        let mut short = query.clone();
        short.limit = query.limit.and(Some(limit));
        self.inner.list(&short).await
    }
}

#[derive(Debug)]
struct Folders {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for Folders {
    delegate_store!(self.inner, except contains);

    async fn contains(&self, key: &Key) -> Result<bool> {
        let below = ListQuery::new(KeyPrefix::from(key)).with_limit(1).with_keys_only();
        Ok(self.inner.contains(key).await? || !self.inner.list(&below).await?.items.is_empty())
    }
}

#[derive(Debug)]
struct OwnKeyListed {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for OwnKeyListed {
    delegate_store!(self.inner, except list);

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        let mut page = self.inner.list(query).await?;
        let is_first = query.keys_only && !query.reverse && query.after.is_none();
        if let (Some(own), true) = (query.prefix.excluded_key(), is_first)
            && self.inner.contains(&own).await?
        {
            page.items.insert(0, ListItem { key: own, entry: None });
            page.items.truncate(query.limit.unwrap_or(usize::MAX));
        }
        Ok(page)
    }
}
