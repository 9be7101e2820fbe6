//! Listing in key order, by the order of the tree.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::time::SystemTime;

use kv_core::{Key, ListItem, ListPage, ListQuery, Result, stored};
use sled::{IVec, Tree};

use crate::codec::{Physical, data_key, data_range, entry};
use crate::error::from_sled;
use crate::handle::Shared;

/// How many records are read at a time. Writers wait meanwhile.
const RECORDS_AT_ONCE: usize = 256;

type Range = (Bound<Vec<u8>>, Bound<Vec<u8>>);

impl Shared {
    /// One page.
    pub(crate) async fn list(self: &Arc<Self>, query: &ListQuery) -> Result<ListPage> {
        let Some(range) = query.range() else { return Ok(ListPage::default()) };
        let mut waiting = Overlay { records: self.waiting(&range).await?, reverse: query.reverse };
        let mut search = Search { range: data_range(range), reverse: query.reverse, keys_only: query.keys_only };
        let (mut page, mut bytes) = (ListPage::default(), 0);
        loop {
            let asked = search.clone();
            let room = query.limit.map_or(RECORDS_AT_ONCE, |limit| limit - page.items.len());
            let clock = Arc::clone(&self.clock);
            let chunk = self.read(move |tree| asked.read(tree, &*clock, room.min(RECORDS_AT_ONCE))).await?;
            for (item, value_bytes) in search.merge(chunk.last.as_deref(), chunk.items, &mut waiting, self.clock.now())
            {
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

    /// What waits to be written in a range.
    async fn waiting(self: &Arc<Self>, range: &(Bound<String>, Bound<String>)) -> Result<BTreeMap<Key, Option<IVec>>> {
        let range = range.clone();
        let look = move |shared: &Self, patience| match &shared.behind {
            Some(behind) => behind.in_range(&range, patience).map(Ok),
            None => Some(Ok(BTreeMap::new())),
        };
        self.patiently(look).await
    }
}

/// What waits to be written and lies over the tree.
#[derive(Debug)]
struct Overlay {
    records: BTreeMap<Key, Option<IVec>>,
    reverse: bool,
}

impl Overlay {
    /// The next record, unless it comes behind this physical key.
    fn pop(&mut self, last: Option<&[u8]>) -> Option<(Key, Option<IVec>)> {
        let entry = if self.reverse { self.records.last_entry() } else { self.records.first_entry() }?;
        let is_next = last.is_none_or(|last| {
            let physical = data_key(entry.key());
            if self.reverse { physical.as_slice() >= last } else { physical.as_slice() <= last }
        });
        is_next.then(|| entry.remove_entry())
    }
}

/// What of the tree is still to be read.
#[derive(Debug, Clone)]
struct Search {
    range: Range,
    reverse: bool,
    keys_only: bool,
}

type Item = (ListItem, usize);

/// Some live entries with the bytes that they count, and the physical key behind which more may be.
#[derive(Debug, Default)]
struct Chunk {
    items: Vec<Item>,
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
            if let Physical::Data(key) = Physical::read(&physical)
                && let Some(item) = self.item(key, value, now)
            {
                bytes += item.1;
                chunk.items.push(item);
            }
            if seen >= records || bytes >= ListQuery::DEFAULT_PAGE_BYTES {
                chunk.last = Some(physical);
                break;
            }
        }
        Ok(chunk)
    }

    /// A live entry and the bytes that it counts. What is damaged or foreign is not listed; `get` and the tools tell of it
    /// (clause L-4).
    fn item(&self, key: Key, value: IVec, now: SystemTime) -> Option<Item> {
        if !stored::deadline(&key, &value).is_ok_and(|deadline| !deadline.has_passed(now)) {
            return None;
        }
        if self.keys_only {
            return Some((ListItem { key, entry: None }, 0));
        }
        let size = value.len().saturating_sub(stored::HEADER_BYTES);
        let (entry, _) = entry(&key, value).ok()?;
        Some((ListItem { key, entry: Some(entry) }, size))
    }

    /// Items of the tree up to a physical key, and what lies over them.
    fn merge(&self, last: Option<&[u8]>, items: Vec<Item>, waiting: &mut Overlay, now: SystemTime) -> Vec<Item> {
        if waiting.records.is_empty() {
            return items;
        }
        let mut merged = Vec::with_capacity(items.len());
        for item in items {
            let (key, mut is_hidden) = (&item.0.key, false);
            while let Some((over, stored)) = waiting.pop(Some(&data_key(key))) {
                is_hidden |= over == *key;
                merged.extend(stored.and_then(|stored| self.item(over, stored, now)));
            }
            if !is_hidden {
                merged.push(item);
            }
        }
        while let Some((over, stored)) = waiting.pop(last) {
            merged.extend(stored.and_then(|stored| self.item(over, stored, now)));
        }
        merged
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
