//! Pages of a list, in order: from the indexes of the buckets, merged, or from a scan.

use std::collections::BTreeSet;
use std::ops::Bound;

use kv_core::{Key, ListItem, ListPage, ListQuery, Operation, Result};

use crate::error::{CONTEXT, read_error};
use crate::index_reader::IndexReader;
use crate::layout::Shape;
use crate::scan::{Scan, Types};
use crate::state::State;

/// Keys that one round of reading adds to a page.
const KEYS_PER_ROUND: usize = 1_000;

/// Keys of a page from an index whose query has no limit.
const UNLIMITED_PAGE_KEYS: usize = 10_000;

/// Members of an index without an entry, such as expired ones, after which a page ends although it is not full.
const MAX_MISSING: usize = 4_000;

impl State {
    pub(crate) async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        query.check(&self.info.capabilities)?;
        let Some(range) = query.range() else { return Ok(ListPage::default()) };
        if self.layout.shape == Shape::Indexed {
            self.index_trust.check()?;
            self.list_from_index(query, range).await
        } else {
            self.list_from_scan(query, range).await
        }
    }

    async fn list_from_index(&self, query: &ListQuery, range: (Bound<String>, Bound<String>)) -> Result<ListPage> {
        let wanted = query.limit.unwrap_or(UNLIMITED_PAGE_KEYS);
        let at_once = wanted.min(KEYS_PER_ROUND);
        let buckets = self.layout.buckets_of(&query.prefix);
        // A single bucket is asked for one key more, to know if it has more. Of several buckets, each is asked for its
        // share.
        let members_per_read = if buckets.len() == 1 { at_once + 1 } else { at_once / buckets.len() + 8 };
        let mut reader = IndexReader::new(buckets, range, query.reverse, members_per_read);
        let (mut page, mut room, mut seen) = (ListPage::default(), query.max_page_bytes.max(1), 0);
        loop {
            let at_once = (wanted - page.items.len() - page.damaged.len()).min(KEYS_PER_ROUND);
            let mut keys = Vec::new();
            while keys.len() < at_once && reader.fill(self).await.map_err(read_error)? {
                reader.merge_into(&mut keys, at_once);
            }
            if !self.add_to_page(query, &keys, &mut page, &mut room).await? {
                return Ok(page);
            }
            seen += keys.len();
            let is_full = room == 0 || page.items.len() + page.damaged.len() >= wanted;
            match keys.pop().filter(|_| reader.has_more()) {
                Some(last) if is_full || seen >= wanted.saturating_add(MAX_MISSING) => {
                    page.next = Some(last);
                    return Ok(page);
                }
                Some(_) => {}
                None => return Ok(page),
            }
        }
    }

    async fn list_from_scan(&self, query: &ListQuery, range: (Bound<String>, Bound<String>)) -> Result<ListPage> {
        self.check_open()?;
        let wanted = query.limit.unwrap_or(usize::MAX);
        let mut found = BTreeSet::new();
        // In a database that is shared without a namespace, values of other types are foreign. A list of keys only has
        // no place for their errors.
        let is_shared = self.layout.entry_prefix.is_empty();
        let types = if query.keys_only || is_shared { Types::Strings } else { Types::All };
        let mut scan = Scan::begin(self, &query.prefix, types).await.map_err(read_error)?;
        while let Some(keys) = scan.next(self).await.map_err(read_error)? {
            found.extend(keys.into_iter().filter(|key| covers(&range, key)));
            // One key more than wanted is kept, to know if there are more.
            while found.len() > wanted.saturating_add(1) {
                if query.reverse {
                    found.pop_first()
                } else {
                    found.pop_last()
                };
            }
        }
        let total = found.len();
        let keys: Vec<Key> = if query.reverse {
            found.into_iter().rev().take(wanted).collect()
        } else {
            found.into_iter().take(wanted).collect()
        };
        let mut page = ListPage::default();
        if query.keys_only {
            // Unlike members of an index, scanned keys need no check that they exist.
            page.next = keys.last().filter(|_| keys.len() < total).cloned();
            page.items = keys.into_iter().map(|key| ListItem { key, entry: None }).collect();
            return Ok(page);
        }
        let mut room = query.max_page_bytes.max(1);
        let mut last = None;
        for keys in keys.chunks(KEYS_PER_ROUND) {
            if room == 0 {
                page.next = last;
                return Ok(page);
            }
            if !self.add_to_page(query, keys, &mut page, &mut room).await? {
                return Ok(page);
            }
            last = keys.last().cloned();
        }
        page.next = keys.last().filter(|_| keys.len() < total).cloned();
        Ok(page)
    }

    /// Adds the entries of keys to a page, in order. Returns true if all were added; otherwise sets the position at
    /// which the next page resumes.
    async fn add_to_page(
        &self,
        query: &ListQuery,
        keys: &[Key],
        page: &mut ListPage,
        room: &mut usize,
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
        let mut entries = self.page_entries(keys, *room).await?.into_iter();
        for (number, key) in keys.iter().enumerate() {
            // Entries that do not fit were not read.
            let Some(entry) = entries.next().filter(|_| *room > 0) else {
                page.next = keys.get(number.wrapping_sub(1)).cloned();
                return Ok(false);
            };
            match entry {
                Ok(Some(entry)) => {
                    *room = room.saturating_sub(entry.value.len());
                    page.items.push(ListItem { key: key.clone(), entry: Some(entry) });
                }
                Ok(None) => {}
                Err(error) => page.damaged.extend(CONTEXT.key::<()>(Operation::List, key, Err(error)).err()),
            }
        }
        Ok(true)
    }
}

fn covers((start, end): &(Bound<String>, Bound<String>), key: &Key) -> bool {
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
