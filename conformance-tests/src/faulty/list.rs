//! Prefixes that cover too much, and a `clear` that goes too far.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use kv_core::{Entry, Error, Key, KeyPrefix, KvStore, ListPage, ListQuery, Result, delegate_store};

use super::kept::Kept;
use super::{faults, scan};

faults! { list:
    prefix_matches_half_a_segment: "K-4" "finds a prefix by its text, so that `a` covers `ab`"
        ["list/whole_segments_only", "list/deep_prefixes", "list/of_no_match"]
        |inner, _clock| Matched { inner, covers: by_text };
    prefix_is_a_like_pattern: "L-4" "hands a prefix to LIKE without escaping `%` and `_`"
        ["list/patterns_mean_nothing", "clear/patterns_mean_nothing", "list/dangerous_prefixes"]
        |inner, _clock| Matched { inner, covers: |prefix, text| by_pattern(prefix, text, '_', '%') };
    prefix_is_a_glob: "L-4" "hands a prefix to SCAN MATCH without escaping `*` and `?`, where Fedify fails"
        ["list/patterns_mean_nothing"]
        |inner, _clock| Matched { inner, covers: |prefix, text| by_pattern(prefix, text, '?', '*') };
    clear_takes_the_neighbour: "L-5" "clears by text, so that the namespace `app` takes `app2` with it"
        ["clear/of_one_namespace", "clear/a_prefix", "clear/the_empty_segment_is_not_everything"]
        |inner, _clock| NeighbourClear { inner };
    clear_takes_everything: "L-5" "clears with FLUSHALL, whatever the prefix"
        ["clear/a_prefix", "clear/five_thousand", "clear/while_others_write"]
        |inner, _clock| Flush { inner };
    clear_takes_one_page: "L-5" "clears what the first page of a list shows, and leaves the rest"
        ["clear/longer_than_a_page"]
        |inner, _clock| PageClear { inner };
    clear_of_nothing_fails: "L-5" "makes an error of clearing where there is nothing"
        ["clear/of_nothing", "clear/every_prefix", "clear/of_no_match"]
        |inner, _clock| StrictClear { inner };
    cleared_keys_stay_hidden: "L-5" "hides what it cleared, and what is written there later"
        ["clear/written_again"]
        |inner, _clock| Hiding { inner, hidden: Kept::default() };
    clear_counts_at_least_one: "L-5" "says that one entry went where there was none"
        ["clear/twice"]
        |inner, _clock| CountedClear { inner, count: |cleared| cleared.max(1) };
    clear_counts_nothing: "L-5" "clears, and says that there was nothing"
        ["clear/everything", "clear/of_one_store", "clear/entries_with_a_deadline"]
        |inner, _clock| CountedClear { inner, count: |_| 0 };
}

/// Whether the text of a key is under the text of a prefix.
type Covers = fn(&str, &str) -> bool;

fn by_text(prefix: &str, key: &str) -> bool {
    key.starts_with(prefix)
}

/// As `prefix` and as `prefix#%`, where `one` stands for any character and `many` for any number of them.
fn by_pattern(prefix: &str, key: &str, one: char, many: char) -> bool {
    let (key, own): (Vec<char>, Vec<char>) = (key.chars().collect(), prefix.chars().collect());
    let below: Vec<char> = own.iter().copied().chain(['#', many]).collect();
    matches(&own, &key, one, many) || matches(&below, &key, one, many)
}

fn matches(pattern: &[char], text: &[char], one: char, many: char) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some((wild, rest)) if *wild == many => {
            (0..=text.len()).any(|skip| matches(rest, text.get(skip..).unwrap_or_default(), one, many))
        }
        Some((wanted, rest)) => text
            .split_first()
            .is_some_and(|(found, text)| (wanted == found || *wanted == one) && matches(rest, text, one, many)),
    }
}

/// Has a notion of its own of what a prefix covers.
struct Matched {
    inner: Arc<dyn KvStore>,
    covers: Covers,
}

impl Matched {
    fn covers(&self, prefix: &KeyPrefix, key: &Key) -> bool {
        prefix.as_str().is_none_or(|prefix| (self.covers)(prefix, key.as_str()))
    }
}

impl fmt::Debug for Matched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Matched").finish_non_exhaustive()
    }
}

#[async_trait]
impl KvStore for Matched {
    delegate_store!(self.inner, except list clear);

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        query.check(&self.info().capabilities)?;
        let items = scan::everything(&*self.inner, &KeyPrefix::ALL, query.keys_only).await?;
        Ok(scan::page(items, query, |key| self.covers(&query.prefix, key)))
    }

    async fn clear(&self, prefix: &KeyPrefix) -> Result<u64> {
        scan::clear(&*self.inner, |key| self.covers(prefix, key)).await
    }
}

#[derive(Debug)]
struct PageClear {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for PageClear {
    delegate_store!(self.inner, except clear);

    async fn clear(&self, prefix: &KeyPrefix) -> Result<u64> {
        let page = self.inner.list(&ListQuery::new(prefix.clone())).await?;
        let keys: Vec<Key> = page.items.into_iter().map(|item| item.key).collect();
        let mut removed = 0;
        for outcome in self.inner.delete_many(&keys).await {
            removed += u64::from(outcome?.is_deleted());
        }
        Ok(removed)
    }
}

#[derive(Debug)]
struct NeighbourClear {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for NeighbourClear {
    delegate_store!(self.inner, except clear);

    async fn clear(&self, prefix: &KeyPrefix) -> Result<u64> {
        scan::clear(&*self.inner, |key| prefix.as_str().is_none_or(|prefix| by_text(prefix, key.as_str()))).await
    }
}

#[derive(Debug)]
struct Flush {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for Flush {
    delegate_store!(self.inner, except clear);

    async fn clear(&self, prefix: &KeyPrefix) -> Result<u64> {
        let cleared = self.inner.clear(prefix).await?;
        self.inner.clear(&KeyPrefix::ALL).await?;
        Ok(cleared)
    }
}

#[derive(Debug)]
struct CountedClear {
    inner: Arc<dyn KvStore>,
    count: fn(u64) -> u64,
}

#[async_trait]
impl KvStore for CountedClear {
    delegate_store!(self.inner, except clear);

    async fn clear(&self, prefix: &KeyPrefix) -> Result<u64> {
        self.inner.clear(prefix).await.map(self.count)
    }
}

#[derive(Debug)]
struct StrictClear {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for StrictClear {
    delegate_store!(self.inner, except clear);

    async fn clear(&self, prefix: &KeyPrefix) -> Result<u64> {
        match self.inner.clear(prefix).await? {
            0 if !prefix.is_all() => Err(Error::invalid("there is nothing to clear")),
            cleared => Ok(cleared),
        }
    }
}

/// Clears by a mark on the prefix, which nothing takes away.
#[derive(Debug)]
struct Hiding {
    inner: Arc<dyn KvStore>,
    hidden: Kept<Vec<KeyPrefix>>,
}

#[async_trait]
impl KvStore for Hiding {
    delegate_store!(self.inner, except get get_many contains clear);

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        let is_hidden = self.hidden.lock().iter().any(|prefix| prefix.covers(key));
        Ok(self.inner.get(key).await?.filter(|_| !is_hidden))
    }

    async fn clear(&self, prefix: &KeyPrefix) -> Result<u64> {
        let cleared = self.inner.clear(prefix).await?;
        self.hidden.lock().push(prefix.clone());
        Ok(cleared)
    }
}
