//! Pages of a list.
//!
//! The keys come from the merged indexes of the buckets, or from a sorted scan.

use std::collections::BTreeSet;
use std::ops::Bound;

use kv_core::{Key, ListItem, ListPage, ListQuery, Operation, Result};

use crate::error::{CONTEXT, read_error};
use crate::index_reader::IndexReader;
use crate::layout::Shape;
use crate::scan::{Scan, Types};
use crate::state::State;

/// The maximum number of keys whose entries one round of reads adds to a page.
const KEYS_PER_ROUND: usize = 1_000;

/// The maximum number of keys of a page from an index, if the query has no limit.
const UNLIMITED_PAGE_KEYS: usize = 10_000;

/// A page ends early after this many index members that have no live entry.
const MAX_MEMBERS_WITHOUT_ENTRY: usize = 4_000;

impl State {
    pub(crate) async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        self.check_open()?;
        query.check(&self.info.capabilities)?;
        let Some(range) = query.range() else { return Ok(ListPage::default()) };
        if self.layout.shape == Shape::Indexed {
            self.refresh_settings().await?;
            self.index_trust.check()?;
            let page = self.list_from_index(query, range).await?;
            // After a failover, the list may have ended on another server than the one on which it began.
            self.refresh_settings().await?;
            self.index_trust.check()?;
            Ok(page)
        } else {
            self.list_from_scan(query, range).await
        }
    }

    async fn list_from_index(&self, query: &ListQuery, range: (Bound<String>, Bound<String>)) -> Result<ListPage> {
        let wanted = query.limit.unwrap_or(UNLIMITED_PAGE_KEYS);
        let keys_per_round = wanted.min(KEYS_PER_ROUND);
        let buckets = self.layout.buckets_of(&query.prefix);
        // The index of a single bucket is read up to one key beyond the round, because this key proves that the list
        // continues. If there are several buckets, each index is read up to its share of the round plus a few keys,
        // because the shares differ.
        let members_per_read = if buckets.len() == 1 { keys_per_round + 1 } else { keys_per_round / buckets.len() + 8 };
        let mut reader = IndexReader::new(buckets, range, query.reverse, members_per_read);
        let (mut page, mut bytes_left, mut members_read) = (ListPage::default(), query.max_page_bytes.max(1), 0);
        loop {
            let keys_per_round = (wanted - page.items.len() - page.damaged.len()).min(KEYS_PER_ROUND);
            let mut keys = Vec::new();
            while keys.len() < keys_per_round && reader.fill(self).await.map_err(read_error)? {
                reader.merge_into(&mut keys, keys_per_round);
            }
            if !self.add_to_page(query, &keys, &mut page, &mut bytes_left).await? {
                return Ok(page);
            }
            members_read += keys.len();
            let is_full = bytes_left == 0 || page.items.len() + page.damaged.len() >= wanted;
            match keys.pop().filter(|_| reader.has_more()) {
                Some(last) if is_full || members_read >= wanted.saturating_add(MAX_MEMBERS_WITHOUT_ENTRY) => {
                    page.next = Some(last);
                    return Ok(page);
                }
                Some(_) => {}
                None => return Ok(page),
            }
        }
    }

    async fn list_from_scan(&self, query: &ListQuery, range: (Bound<String>, Bound<String>)) -> Result<ListPage> {
        let wanted = query.limit.unwrap_or(usize::MAX);
        let mut found = BTreeSet::new();
        // With an empty namespace, values of other types are foreign and not listed. A keys-only list cannot report
        // their errors.
        let is_whole_database = self.layout.entry_prefix.is_empty();
        let types = if query.keys_only || is_whole_database { Types::Strings } else { Types::All };
        let mut scan = Scan::begin(self, &query.prefix, types).await.map_err(read_error)?;
        while let Some(keys) = scan.next(self).await.map_err(read_error)? {
            found.extend(keys.into_iter().filter(|key| is_in_range(&range, key)));
            // Keep one key more than wanted, because this key proves that the list continues.
            while found.len() > wanted.saturating_add(1) {
                if query.reverse {
                    found.pop_first()
                } else {
                    found.pop_last()
                };
            }
        }
        let found_count = found.len();
        let keys: Vec<Key> = if query.reverse {
            found.into_iter().rev().take(wanted).collect()
        } else {
            found.into_iter().take(wanted).collect()
        };
        let mut page = ListPage::default();
        if query.keys_only {
            // A scan returns only keys that exist, so the check that the members of an index need is not necessary.
            page.next = keys.last().filter(|_| keys.len() < found_count).cloned();
            page.items = keys.into_iter().map(|key| ListItem { key, entry: None }).collect();
            return Ok(page);
        }
        let mut bytes_left = query.max_page_bytes.max(1);
        let mut last = None;
        for keys in keys.chunks(KEYS_PER_ROUND) {
            if bytes_left == 0 {
                page.next = last;
                return Ok(page);
            }
            if !self.add_to_page(query, keys, &mut page, &mut bytes_left).await? {
                return Ok(page);
            }
            last = keys.last().cloned();
        }
        page.next = keys.last().filter(|_| keys.len() < found_count).cloned();
        Ok(page)
    }

    /// Adds the entries of keys to a page, in order, and subtracts their bytes from `bytes_left`. If not all entries
    /// fit, sets the key after which the next page resumes, and returns false.
    async fn add_to_page(
        &self,
        query: &ListQuery,
        keys: &[Key],
        page: &mut ListPage,
        bytes_left: &mut usize,
    ) -> Result<bool> {
        if keys.is_empty() {
            return Ok(true);
        }
        if query.keys_only {
            let live = self.are_live(keys).await?;
            let items = keys.iter().zip(live).filter(|(_, is_live)| *is_live);
            page.items.extend(items.map(|(key, _)| ListItem { key: key.clone(), entry: None }));
            return Ok(true);
        }
        let mut entries = self.page_entries(keys, *bytes_left).await?.into_iter();
        for (index, key) in keys.iter().enumerate() {
            // `page_entries` reads no entries that do not fit.
            let Some(entry) = entries.next().filter(|_| *bytes_left > 0) else {
                page.next = keys.get(index.wrapping_sub(1)).cloned();
                return Ok(false);
            };
            match entry {
                Ok(Some(entry)) => {
                    *bytes_left = bytes_left.saturating_sub(entry.value.len());
                    page.items.push(ListItem { key: key.clone(), entry: Some(entry) });
                }
                Ok(None) => {}
                Err(error) => page.damaged.extend(CONTEXT.key::<()>(Operation::List, key, Err(error)).err()),
            }
        }
        Ok(true)
    }
}

/// True if the key is in the range.
fn is_in_range((start, end): &(Bound<String>, Bound<String>), key: &Key) -> bool {
    let text = key.as_str();
    let is_after_start = match start {
        Bound::Included(start) => text >= start.as_str(),
        Bound::Excluded(start) => text > start.as_str(),
        Bound::Unbounded => true,
    };
    let is_before_end = match end {
        Bound::Included(end) => text <= end.as_str(),
        Bound::Excluded(end) => text < end.as_str(),
        Bound::Unbounded => true,
    };
    is_after_start && is_before_end
}
