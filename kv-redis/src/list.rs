//! Lists in order: from the buckets' indexes, merged, or from a scan.

use std::collections::BTreeSet;
use std::ops::Bound;

use kv_core::{Key, ListItem, ListPage, ListQuery, Result};

use crate::error::read;
use crate::layout::Shape;
use crate::runs::Runs;
use crate::scan::Scan;
use crate::store::Shared;

/// How many keys a page of an index has at most.
const PAGE: usize = 1_000;

impl Shared {
    pub(crate) async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        query.check(&self.info.capabilities)?;
        let Some(range) = query.range() else { return Ok(ListPage::default()) };
        if self.layout.shape == Shape::Ordered {
            self.list_index(query, range).await
        } else {
            self.list_scan(query, range).await
        }
    }

    async fn list_index(&self, query: &ListQuery, range: (Bound<String>, Bound<String>)) -> Result<ListPage> {
        let wanted = query.limit.unwrap_or(PAGE).min(PAGE);
        let buckets = self.layout.buckets_of(&query.prefix);
        // One bucket is asked for one more than is wanted, so that it tells whether it ends there; many, for their share.
        let share = if buckets.len() == 1 { wanted + 1 } else { wanted / buckets.len() + 8 };
        let mut runs = Runs::new(buckets, range, query.reverse, share);
        let mut keys = Vec::new();
        while keys.len() < wanted && runs.refill(self).await.map_err(read)? {
            runs.take(&mut keys, wanted);
        }
        let has_more = runs.has_more();
        let mut page = ListPage::default();
        let mut room = query.max_page_bytes.max(1);
        let is_whole = self.fill(query, &keys, &mut page, &mut room).await?;
        if is_whole {
            page.next = keys.pop().filter(|_| has_more);
        }
        Ok(page)
    }

    async fn list_scan(&self, query: &ListQuery, range: (Bound<String>, Bound<String>)) -> Result<ListPage> {
        self.check_open()?;
        let wanted = query.limit.unwrap_or(usize::MAX);
        let mut found = BTreeSet::new();
        let mut scan = Scan::begin(self, &query.prefix).await.map_err(read)?;
        while let Some(keys) = scan.next(self).await.map_err(read)? {
            found.extend(keys.into_iter().filter(|key| covers(&range, key)));
            // One more than is wanted tells whether there is more.
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
            // The server has just shown them.
            page.next = keys.last().filter(|_| keys.len() < total).cloned();
            page.items = keys.into_iter().map(|key| ListItem { key, entry: None }).collect();
            return Ok(page);
        }
        let mut room = query.max_page_bytes.max(1);
        for keys in keys.chunks(PAGE) {
            if room == 0 {
                page.next = page.items.last().map(|item| item.key.clone());
                return Ok(page);
            }
            if !self.fill(query, keys, &mut page, &mut room).await? {
                return Ok(page);
            }
        }
        page.next = keys.last().filter(|_| keys.len() < total).cloned();
        Ok(page)
    }

    /// Adds the entries of these keys to a page, in order, and tells whether it took them all; if not, the page says where to
    /// go on.
    async fn fill(&self, query: &ListQuery, keys: &[Key], page: &mut ListPage, room: &mut usize) -> Result<bool> {
        if query.keys_only {
            let live = self.which_live(keys).await?;
            let items = keys.iter().zip(live).filter(|(_, is_live)| *is_live);
            page.items.extend(items.map(|(key, _)| ListItem { key: key.clone(), entry: None }));
            return Ok(true);
        }
        let mut entries = self.entries(keys, *room).await?.into_iter();
        for (number, key) in keys.iter().enumerate() {
            // What does not fit any more was not read.
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
    let is_behind = match start {
        Bound::Included(start) => text >= start.as_str(),
        Bound::Excluded(start) => text > start.as_str(),
        Bound::Unbounded => true,
    };
    let is_before = match end {
        Bound::Included(end) => text <= end.as_str(),
        Bound::Excluded(end) => text < end.as_str(),
        Bound::Unbounded => true,
    };
    is_behind && is_before
}
