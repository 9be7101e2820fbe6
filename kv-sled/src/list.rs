//! Pages of a list.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::time::SystemTime;

use kv_core::{Entry, Key, ListItem, ListPage, ListQuery, Operation, Result, stored};
use sled::{IVec, Tree};

use crate::codec::{Physical, data_key, data_range, entry};
use crate::error::{NAME, from_sled};
use crate::state::State;

/// The maximum number of records that are read under one lock. Writers wait for this lock.
const CHUNK_RECORDS: usize = 256;

/// The maximum number of records that are read for one page, live or not. After this number, the page ends even if it
/// has fewer items than its limit, so that a call over many expired entries stays short.
const MAX_RECORDS: usize = 64 * CHUNK_RECORDS;

type Range = (Bound<Vec<u8>>, Bound<Vec<u8>>);

impl State {
    pub(crate) async fn list(self: &Arc<Self>, query: &ListQuery) -> Result<ListPage> {
        self.check_open()?;
        query.check(&self.info.capabilities)?;
        let Some(range) = query.range() else { return Ok(ListPage::default()) };
        let mut overlay = Overlay { records: self.pending_records(&range).await?, reverse: query.reverse };
        let mut scan = Scan { range: data_range(range), reverse: query.reverse, keys_only: query.keys_only };
        let limit = query.limit.unwrap_or(usize::MAX);
        let (mut page, mut rows, mut bytes, mut records) = (ListPage::default(), 0, 0, 0);
        loop {
            let remaining = scan.clone();
            let max_rows = limit - rows;
            let clock = Arc::clone(&self.clock);
            let chunk = self.read(move |tree| remaining.read(tree, &*clock, max_rows)).await?;
            records += chunk.records;
            for row in scan.merge(chunk.last.as_deref(), chunk.rows, &mut overlay, self.clock.now()) {
                rows += 1;
                bytes += row.bytes;
                let next = (rows == limit || bytes >= query.max_page_bytes).then(|| row.key.clone());
                row.add_to(&mut page);
                if next.is_some() {
                    page.next = next;
                    return Ok(page);
                }
            }
            let Some(last) = chunk.last else { return Ok(page) };
            // A page can end only at a key. A foreign record has no key. If the last record is foreign, read one more
            // chunk.
            if records >= MAX_RECORDS
                && let Physical::Data(key) = Physical::decode(&last)
            {
                page.next = Some(key);
                return Ok(page);
            }
            scan.resume(&last);
            // Let the runtime check a timeout of the caller between two chunks.
            tokio::task::yield_now().await;
        }
    }

    /// The records in the write-behind buffer whose keys are in a range.
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

/// Pending records. They replace the records of the tree with the same keys.
#[derive(Debug)]
struct Overlay {
    records: BTreeMap<Key, Option<IVec>>,
    reverse: bool,
}

impl Overlay {
    /// Takes the next record in list order, if the record does not come after the physical key `last`. If `last` is
    /// `None`, there is no limit.
    fn pop_up_to(&mut self, last: Option<&[u8]>) -> Option<(Key, Option<IVec>)> {
        let entry = if self.reverse { self.records.last_entry() } else { self.records.first_entry() }?;
        let is_next = last.is_none_or(|last| {
            let physical = data_key(entry.key());
            if self.reverse { physical.as_slice() >= last } else { physical.as_slice() <= last }
        });
        is_next.then(|| entry.remove_entry())
    }
}

/// The range of the tree that a list has not read yet.
#[derive(Debug, Clone)]
struct Scan {
    range: Range,
    reverse: bool,
    keys_only: bool,
}

/// A live or damaged entry of a page.
#[derive(Debug)]
struct Row {
    key: Key,
    /// The entry, `None` in a list of keys only, or the error of a damaged entry.
    found: Result<Option<Entry>>,
    /// The number of bytes that count towards the size of a page: the bytes of the value, or zero in a list of keys
    /// only.
    bytes: usize,
}

impl Row {
    fn add_to(self, page: &mut ListPage) {
        let Self { key, found, bytes: _ } = self;
        match found {
            Ok(entry) => page.items.push(ListItem { key, entry }),
            Err(error) => page.damaged.push(error.with_operation(Operation::List).with_backend(NAME).with_key(&key)),
        }
    }
}

/// The result of reading a part of a scan.
#[derive(Debug, Default)]
struct Chunk {
    rows: Vec<Row>,
    /// The physical key after which the scan continues; `None` at the end of the range.
    last: Option<IVec>,
    /// The number of records that were read, live or not.
    records: usize,
}

impl Scan {
    /// Reads one chunk with at most `max_rows` rows.
    fn read(&self, tree: &Tree, clock: &dyn kv_core::Clock, max_rows: usize) -> Result<Chunk> {
        let now = clock.now();
        let mut chunk = Chunk::default();
        let mut bytes = 0;
        let mut items = tree.range::<Vec<u8>, _>(self.range.clone());
        loop {
            let item = if self.reverse { items.next_back() } else { items.next() };
            let Some(item) = item else { break };
            let (physical, value) = item.map_err(from_sled)?;
            chunk.records += 1;
            if let Physical::Data(key) = Physical::decode(&physical)
                && let Some(row) = self.row(key, value, now)
            {
                bytes += row.bytes;
                chunk.rows.push(row);
            }
            if chunk.rows.len() >= max_rows || chunk.records >= CHUNK_RECORDS || bytes >= ListQuery::DEFAULT_PAGE_BYTES
            {
                chunk.last = Some(physical);
                break;
            }
        }
        Ok(chunk)
    }

    /// Decodes a record. `None` if the entry has expired.
    fn row(&self, key: Key, value: IVec, now: SystemTime) -> Option<Row> {
        let bytes = if self.keys_only { 0 } else { value.len().saturating_sub(stored::HEADER_BYTES) };
        let found = match stored::deadline(&key, &value) {
            Ok(deadline) if deadline.has_passed(now) => return None,
            Ok(_) if self.keys_only => Ok(None),
            Ok(_) => entry(&key, value).map(|(entry, _)| Some(entry)),
            Err(error) => Err(error),
        };
        Some(Row { key, found, bytes })
    }

    /// Merges the rows of a chunk with the pending records up to `last`, the chunk's last physical key.
    fn merge(&self, last: Option<&[u8]>, rows: Vec<Row>, overlay: &mut Overlay, now: SystemTime) -> Vec<Row> {
        if overlay.records.is_empty() {
            return rows;
        }
        let mut merged = Vec::with_capacity(rows.len());
        for row in rows {
            let mut is_replaced = false;
            while let Some((pending, stored)) = overlay.pop_up_to(Some(&data_key(&row.key))) {
                is_replaced |= pending == row.key;
                merged.extend(stored.and_then(|stored| self.row(pending, stored, now)));
            }
            if !is_replaced {
                merged.push(row);
            }
        }
        while let Some((pending, stored)) = overlay.pop_up_to(last) {
            merged.extend(stored.and_then(|stored| self.row(pending, stored, now)));
        }
        merged
    }

    /// Makes the range begin after this physical key, in list order.
    fn resume(&mut self, last: &IVec) {
        let last = Bound::Excluded(last.to_vec());
        if self.reverse {
            self.range.1 = last;
        } else {
            self.range.0 = last;
        }
    }
}
