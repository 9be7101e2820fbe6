//! Prefixes that cover too much, and `clear` with the wrong range or result.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use kv_core::{Entry, Error, Key, KeyPrefix, KvStore, ListPage, ListQuery, Result, delegate_store};

use super::hidden::Hidden;
use super::{faults, scan};

faults! { list:
    /// Matches a prefix as text, so `a` covers `ab`.
    prefix_matches_half_a_segment: "K-4"
        ["list/whole_segments_only", "list/deep_prefixes", "list/of_no_match"]
        |inner, _clock| WrongPrefixMatch { inner, covers: by_text };
    /// Passes a prefix to LIKE without escaping `%` and `_`.
    prefix_is_a_like_pattern: "L-4"
        ["list/patterns_mean_nothing", "clear/patterns_mean_nothing", "list/dangerous_prefixes"]
        |inner, _clock| WrongPrefixMatch { inner, covers: |prefix, text| by_pattern(prefix, text, '_', '%') };
    /// Passes a prefix to SCAN MATCH without escaping `*` and `?`, as Fedify does.
    prefix_is_a_glob: "L-4"
        ["list/patterns_mean_nothing"]
        |inner, _clock| WrongPrefixMatch { inner, covers: |prefix, text| by_pattern(prefix, text, '?', '*') };
    /// Clears by text, so clearing the namespace `app` also clears `app2`.
    clear_removes_neighbours: "L-5"
        ["clear/of_one_namespace", "clear/a_prefix", "clear/the_empty_segment_is_not_everything"]
        |inner, _clock| ClearsByText { inner };
    /// Clears with FLUSHALL, even if a prefix is given.
    clear_removes_everything: "L-5"
        ["clear/a_prefix", "clear/five_thousand", "clear/while_others_write"]
        |inner, _clock| ClearsEverything { inner };
    /// Clears the first page of a list, and leaves the rest.
    clear_removes_one_page: "L-5"
        ["clear/longer_than_a_page"]
        |inner, _clock| ClearsOnePage { inner };
    /// Returns an error for a `clear` if there is nothing to clear.
    clear_of_nothing_fails: "L-5"
        ["clear/of_nothing", "clear/every_prefix", "clear/of_no_match"]
        |inner, _clock| EmptyClearFails { inner };
    /// Hides cleared keys, and also entries that are written under them later.
    cleared_keys_stay_hidden: "L-5"
        ["clear/written_again"]
        |inner, _clock| HiddenAfterClear { inner, hidden: Hidden::default() };
    /// Returns 1 from a `clear` that removed no entry.
    clear_counts_at_least_one: "L-5"
        ["clear/twice"]
        |inner, _clock| MiscountedClear { inner, count: |cleared| cleared.max(1) };
    /// Clears, but returns zero.
    clear_returns_zero: "L-5"
        ["clear/everything", "clear/of_one_store", "clear/entries_with_a_deadline"]
        |inner, _clock| MiscountedClear { inner, count: |_| 0 };
}

/// True if the text of a prefix, the first argument, covers the text of a key.
type Covers = fn(&str, &str) -> bool;

fn by_text(prefix: &str, key: &str) -> bool {
    key.starts_with(prefix)
}

/// Matches the patterns `prefix` and `prefix#%`. `one` matches any character, and `many` any number of characters.
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

/// Matches prefixes with the wrong function `covers`.
struct WrongPrefixMatch {
    inner: Arc<dyn KvStore>,
    covers: Covers,
}

impl WrongPrefixMatch {
    fn covers(&self, prefix: &KeyPrefix, key: &Key) -> bool {
        prefix.as_str().is_none_or(|prefix| (self.covers)(prefix, key.as_str()))
    }
}

impl fmt::Debug for WrongPrefixMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WrongPrefixMatch").finish_non_exhaustive()
    }
}

#[async_trait]
impl KvStore for WrongPrefixMatch {
    delegate_store!(self.inner, except list clear);

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        query.check(&self.info().capabilities)?;
        let items = scan::list_all(&*self.inner, &KeyPrefix::ALL, query.keys_only).await?;
        Ok(scan::page(items, query, |key| self.covers(&query.prefix, key)))
    }

    async fn clear(&self, prefix: &KeyPrefix) -> Result<u64> {
        scan::clear(&*self.inner, |key| self.covers(prefix, key)).await
    }
}

#[derive(Debug)]
struct ClearsOnePage {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for ClearsOnePage {
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
struct ClearsByText {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for ClearsByText {
    delegate_store!(self.inner, except clear);

    async fn clear(&self, prefix: &KeyPrefix) -> Result<u64> {
        scan::clear(&*self.inner, |key| prefix.as_str().is_none_or(|prefix| by_text(prefix, key.as_str()))).await
    }
}

#[derive(Debug)]
struct ClearsEverything {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for ClearsEverything {
    delegate_store!(self.inner, except clear);

    async fn clear(&self, prefix: &KeyPrefix) -> Result<u64> {
        let cleared = self.inner.clear(prefix).await?;
        self.inner.clear(&KeyPrefix::ALL).await?;
        Ok(cleared)
    }
}

#[derive(Debug)]
struct MiscountedClear {
    inner: Arc<dyn KvStore>,
    count: fn(u64) -> u64,
}

#[async_trait]
impl KvStore for MiscountedClear {
    delegate_store!(self.inner, except clear);

    async fn clear(&self, prefix: &KeyPrefix) -> Result<u64> {
        self.inner.clear(prefix).await.map(self.count)
    }
}

#[derive(Debug)]
struct EmptyClearFails {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for EmptyClearFails {
    delegate_store!(self.inner, except clear);

    async fn clear(&self, prefix: &KeyPrefix) -> Result<u64> {
        match self.inner.clear(prefix).await? {
            0 if !prefix.is_all() => Err(Error::invalid("there is nothing to clear")),
            cleared => Ok(cleared),
        }
    }
}

/// Marks a cleared prefix as hidden, and never removes the mark.
#[derive(Debug)]
struct HiddenAfterClear {
    inner: Arc<dyn KvStore>,
    hidden: Hidden<Vec<KeyPrefix>>,
}

#[async_trait]
impl KvStore for HiddenAfterClear {
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
