//! Pages of a list, in order: from the indexes of the buckets, merged, or from a scan.

use std::collections::BTreeSet;
use std::ops::Bound;

use kv_core::{Key, ListItem, ListPage, ListQuery, Result};

use crate::error::read_error;
use crate::index_reader::IndexReader;
use crate::layout::Shape;
use crate::scan::Scan;
use crate::state::State;

/// Keys that a page from an index has at most.
const MAX_PAGE_KEYS: usize = 1_000;

impl State {
    pub(crate) async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        query.check(&self.info.capabilities)?;
        let Some(range) = query.range() else { return Ok(ListPage::default()) };
        if self.layout.shape == Shape::Indexed {
            self.list_from_index(query, range).await
        } else {
            self.list_from_scan(query, range).await
        }
    }

    async fn list_from_index(&self, query: &ListQuery, range: (Bound<String>, Bound<String>)) -> Result<ListPage> {
        let wanted = query.limit.unwrap_or(MAX_PAGE_KEYS).min(MAX_PAGE_KEYS);
        let buckets = self.layout.buckets_of(&query.prefix);
        // A single bucket is asked for one key more, to know if it has more. Of several buckets, each is asked for its
        // share.
        let members_per_read = if buckets.len() == 1 { wanted + 1 } else { wanted / buckets.len() + 8 };
        let mut reader = IndexReader::new(buckets, range, query.reverse, members_per_read);
        let mut keys = Vec::new();
        while keys.len() < wanted && reader.fill(self).await.map_err(read_error)? {
            reader.merge_into(&mut keys, wanted);
        }
        let has_more = reader.has_more();
        let mut page = ListPage::default();
        let mut room = query.max_page_bytes.max(1);
        let is_whole = self.add_to_page(query, &keys, &mut page, &mut room).await?;
        if is_whole {
            page.next = keys.pop().filter(|_| has_more);
        }
        Ok(page)
    }

    async fn list_from_scan(&self, query: &ListQuery, range: (Bound<String>, Bound<String>)) -> Result<ListPage> {
        self.check_open()?;
        let wanted = query.limit.unwrap_or(usize::MAX);
        let mut found = BTreeSet::new();
        let mut scan = Scan::begin(self, &query.prefix).await.map_err(read_error)?;
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
        for keys in keys.chunks(MAX_PAGE_KEYS) {
            if room == 0 {
                page.next = page.items.last().map(|item| item.key.clone());
                return Ok(page);
            }
            if !self.add_to_page(query, keys, &mut page, &mut room).await? {
                return Ok(page);
            }
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
            if let Some(entry) = entry {
                *room = room.saturating_sub(entry.value.len());
                page.items.push(ListItem { key: key.clone(), entry: Some(entry) });
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
