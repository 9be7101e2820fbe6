//! Listing in key order, by the order of the tree.

use std::ops::Bound;
use std::sync::Arc;

use kv_core::{Key, ListItem, ListPage, ListQuery, Result, stored};
use sled::{IVec, Tree};

use crate::codec::{Physical, data_range, entry};
use crate::error::from_sled;
use crate::handle::Shared;

/// How many records are read at a time. Writers wait meanwhile.
const RECORDS_AT_ONCE: usize = 256;

type Range = (Bound<Vec<u8>>, Bound<Vec<u8>>);

impl Shared {
    /// One page.
    pub(crate) async fn list(self: &Arc<Self>, query: &ListQuery) -> Result<ListPage> {
        let Some(range) = query.range() else { return Ok(ListPage::default()) };
        let mut search = Search { range: data_range(range), reverse: query.reverse, keys_only: query.keys_only };
        let (mut page, mut bytes) = (ListPage::default(), 0);
        loop {
            let asked = search.clone();
            let room = query.limit.map_or(RECORDS_AT_ONCE, |limit| limit - page.items.len());
            let clock = Arc::clone(&self.clock);
            let chunk = self.read(move |tree| asked.read(tree, &*clock, room.min(RECORDS_AT_ONCE))).await?;
            for (item, value_bytes) in chunk.items {
                bytes += value_bytes;
                let is_full = Some(page.items.len() + 1) == query.limit || bytes >= query.max_page_bytes;
                let next = is_full.then(|| item.key.clone());
                page.items.push(item);
                if is_full {
                    page.next = next;
                    return Ok(page);
                }
            }
            match chunk.last {
                Some(last) => search.resume(&last),
                None => return Ok(page),
            }
        }
    }
}

/// What of the tree is still to be read.
#[derive(Debug, Clone)]
struct Search {
    range: Range,
    reverse: bool,
    keys_only: bool,
}

/// Some live entries with the bytes that they count, and the physical key behind which more may be.
#[derive(Debug, Default)]
struct Chunk {
    items: Vec<(ListItem, usize)>,
    last: Option<IVec>,
}

impl Search {
    fn read(&self, tree: &Tree, clock: &dyn kv_core::Clock, records: usize) -> Result<Chunk> {
        let now = clock.now();
        let mut chunk = Chunk::default();
        let mut bytes = 0;
        let mut items = tree.range::<Vec<u8>, _>(self.range.clone());
        for seen in 1_usize.. {
            let item = if self.reverse { items.next_back() } else { items.next() };
            let Some(item) = item else { break };
            let (physical, value) = item.map_err(from_sled)?;
            let size = value.len().saturating_sub(stored::HEADER_BYTES);
            // What is damaged or foreign is not listed; `get` and the tools tell of it (clause L-4).
            if let Physical::Data(key) = Physical::read(&physical)
                && stored::deadline(&key, &value).is_ok_and(|deadline| !deadline.has_passed(now))
                && let Some(item) = self.item(key, value)
            {
                let counted = if self.keys_only { 0 } else { size };
                chunk.items.push((item, counted));
                bytes += counted;
            }
            if seen >= records || bytes >= ListQuery::DEFAULT_PAGE_BYTES {
                chunk.last = Some(physical);
                break;
            }
        }
        Ok(chunk)
    }

    fn item(&self, key: Key, value: IVec) -> Option<ListItem> {
        if self.keys_only {
            return Some(ListItem { key, entry: None });
        }
        let (entry, _) = entry(&key, value).ok()?;
        Some(ListItem { key, entry: Some(entry) })
    }

    fn resume(&mut self, last: &IVec) {
        let last = Bound::Excluded(last.to_vec());
        if self.reverse {
            self.range.1 = last;
        } else {
            self.range.0 = last;
        }
    }
}
