//! Pages of a list, in key order.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::time::SystemTime;

use kv_core::{Key, ListItem, ListPage, ListQuery, Result, stored};
use sled::{IVec, Tree};

use crate::codec::{Physical, data_key, data_range, entry};
use crate::error::from_sled;
use crate::state::State;

/// Records that are read under one lock. Writers wait meanwhile.
const CHUNK_RECORDS: usize = 256;

type Range = (Bound<Vec<u8>>, Bound<Vec<u8>>);

impl State {
    pub(crate) async fn list(self: &Arc<Self>, query: &ListQuery) -> Result<ListPage> {
        query.check(&self.info.capabilities)?;
        let Some(range) = query.range() else { return Ok(ListPage::default()) };
        let mut overlay = Overlay { records: self.pending_records(&range).await?, reverse: query.reverse };
        let mut scan = Scan { range: data_range(range), reverse: query.reverse, keys_only: query.keys_only };
        let (mut page, mut bytes) = (ListPage::default(), 0);
        loop {
            let remaining = scan.clone();
            let room = query.limit.map_or(CHUNK_RECORDS, |limit| limit - page.items.len());
            let clock = Arc::clone(&self.clock);
            let chunk = self.read(move |tree| remaining.read(tree, &*clock, room.min(CHUNK_RECORDS))).await?;
            for (item, value_bytes) in scan.merge(chunk.last.as_deref(), chunk.items, &mut overlay, self.clock.now()) {
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
                Some(last) => scan.resume(&last),
                None => return Ok(page),
            }
        }
    }

    /// The records of a range in the write-behind buffer.
    async fn pending_records(
        self: &Arc<Self>,
        range: &(Bound<String>, Bound<String>),
    ) -> Result<BTreeMap<Key, Option<IVec>>> {
        let range = range.clone();
        let attempt = move |state: &Self, timeout| match &state.write_behind {
            Some(write_behind) => write_behind.range(&range, timeout).map(Ok),
            None => Some(Ok(BTreeMap::new())),
        };
        self.inline_or_blocking(attempt).await
    }
}

/// Pending records, which replace those of the tree.
#[derive(Debug)]
struct Overlay {
    records: BTreeMap<Key, Option<IVec>>,
    reverse: bool,
}

impl Overlay {
    /// Takes the next record that does not come after this physical key.
    fn pop_up_to(&mut self, last: Option<&[u8]>) -> Option<(Key, Option<IVec>)> {
        let entry = if self.reverse { self.records.last_entry() } else { self.records.first_entry() }?;
        let is_next = last.is_none_or(|last| {
            let physical = data_key(entry.key());
            if self.reverse { physical.as_slice() >= last } else { physical.as_slice() <= last }
        });
        is_next.then(|| entry.remove_entry())
    }
}

/// The rest of the tree's range that a list has to read.
#[derive(Debug, Clone)]
struct Scan {
    range: Range,
    reverse: bool,
    keys_only: bool,
}

/// A live entry, and the bytes that it adds to a page.
type SizedItem = (ListItem, usize);

/// Some live entries, and the physical key after which the scan continues; `None` at its end.
#[derive(Debug, Default)]
struct Chunk {
    items: Vec<SizedItem>,
    last: Option<IVec>,
}

impl Scan {
    /// Reads at most `records` records.
    fn read(&self, tree: &Tree, clock: &dyn kv_core::Clock, records: usize) -> Result<Chunk> {
        let now = clock.now();
        let mut chunk = Chunk::default();
        let mut bytes = 0;
        let mut items = tree.range::<Vec<u8>, _>(self.range.clone());
        for seen in 1_usize.. {
            let item = if self.reverse { items.next_back() } else { items.next() };
            let Some(item) = item else { break };
            let (physical, value) = item.map_err(from_sled)?;
            if let Physical::Data(key) = Physical::decode(&physical)
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

    /// Decodes a record. `None` if it is expired or damaged: a list leaves damaged entries out, and `get` and `verify`
    /// report them (clause L-4).
    fn item(&self, key: Key, value: IVec, now: SystemTime) -> Option<SizedItem> {
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

    /// Merges items of the tree, up to a physical key, with pending records.
    fn merge(
        &self,
        last: Option<&[u8]>,
        items: Vec<SizedItem>,
        overlay: &mut Overlay,
        now: SystemTime,
    ) -> Vec<SizedItem> {
        if overlay.records.is_empty() {
            return items;
        }
        let mut merged = Vec::with_capacity(items.len());
        for item in items {
            let (key, mut is_replaced) = (&item.0.key, false);
            while let Some((pending, stored)) = overlay.pop_up_to(Some(&data_key(key))) {
                is_replaced |= pending == *key;
                merged.extend(stored.and_then(|stored| self.item(pending, stored, now)));
            }
            if !is_replaced {
                merged.push(item);
            }
        }
        while let Some((pending, stored)) = overlay.pop_up_to(last) {
            merged.extend(stored.and_then(|stored| self.item(pending, stored, now)));
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
