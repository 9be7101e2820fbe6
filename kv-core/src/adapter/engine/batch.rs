//! The records of a store inside a transaction of an engine.

use std::ops::ControlFlow;
use std::time::SystemTime;

use bytes::Bytes;

use super::super::records::{Due, KeyChunk, Records, TextRange};
use super::Writes;
use super::layout::{data_key, data_range, decode_data, decode_index, due_range, index_key};
use crate::clock::Clock;
use crate::entry::Entry;
use crate::error::Result;
use crate::expiry::Deadline;
use crate::key::Key;
use crate::stored;
use crate::version::Version;

/// The total size of values, in bytes, at which a chunk of keys ends.
const MAX_CHUNK_BYTES: usize = 8 << 20;

/// A transaction of an engine as [`Records`]. It keeps the index by deadline together with the entries.
pub(super) struct Batch<'c, W> {
    transaction: W,
    clock: &'c dyn Clock,
    now: SystemTime,
    /// The keys of the changed entries, in the order of their changes.
    changed: Vec<Key>,
    /// The number of changes, and their number before the current call.
    changes: usize,
    earlier_changes: usize,
}

impl<'c, W: Writes> Batch<'c, W> {
    pub(super) fn new(transaction: W, clock: &'c dyn Clock) -> Self {
        Self { transaction, clock, now: clock.now(), changed: Vec::new(), changes: 0, earlier_changes: 0 }
    }

    /// Returns the transaction and the keys of the changed entries. The transaction is `None` if nothing was changed.
    pub(super) fn finish(self) -> (Option<W>, Vec<Key>) {
        ((self.changes > 0).then_some(self.transaction), self.changed)
    }

    fn stored(&self, key: &Key) -> Result<Option<Bytes>> {
        self.transaction.get(&data_key(key))
    }

    /// Writes or removes the stored bytes of a key, and moves its item of the index.
    fn change(&mut self, key: &Key, old: &Bytes, new: Option<(Vec<u8>, Deadline)>) -> Result<()> {
        // Counted first, because a change that fails may leave a part of it.
        self.changes += 1;
        // A damaged record has no known deadline. The sweeper removes its item of the index.
        let old_item = stored::deadline(key, old).ok().and_then(|deadline| index_key(deadline, key));
        let new_item = new.as_ref().and_then(|(_, deadline)| index_key(*deadline, key));
        if old_item != new_item {
            if let Some(item) = old_item {
                self.transaction.remove(&item)?;
            }
            if let Some(item) = new_item {
                self.transaction.put(&item, &[])?;
            }
        }
        match new {
            Some((bytes, _)) => self.transaction.put(&data_key(key), &bytes)?,
            None => self.transaction.remove(&data_key(key))?,
        }
        if self.changed.last() != Some(key) {
            self.changed.push(key.clone());
        }
        Ok(())
    }
}

impl<W: Writes> Records for Batch<'_, W> {
    fn begin_call(&mut self) {
        self.now = self.clock.now();
        self.earlier_changes = self.changes;
    }

    fn has_changed(&self) -> bool {
        self.changes > self.earlier_changes
    }

    fn now(&self) -> SystemTime {
        self.now
    }

    fn deadline(&mut self, key: &Key) -> Result<Option<Deadline>> {
        self.stored(key)?.map(|stored| stored::deadline(key, &stored)).transpose()
    }

    fn entry(&mut self, key: &Key) -> Result<Option<(Entry, Deadline)>> {
        self.stored(key)?.map(|stored| stored::decode(key, stored)).transpose()
    }

    fn put(&mut self, key: &Key, version: Version, deadline: Deadline, value: &[u8]) -> Result<()> {
        // A list would not find a longer key. A namespace in a namespace can make a key too long.
        Key::parse_stored(key.as_str())?;
        let old = self.stored(key)?.unwrap_or_default();
        self.change(key, &old, Some((stored::encode(key, &version, deadline, value), deadline)))
    }

    fn set_deadline(&mut self, key: &Key, deadline: Deadline) -> Result<()> {
        let Some(old) = self.stored(key)? else { return Ok(()) };
        let mut new = old.to_vec();
        stored::set_deadline(key, &mut new, deadline)?;
        self.change(key, &old, Some((new, deadline)))
    }

    fn remove(&mut self, key: &Key) -> Result<()> {
        match self.stored(key)? {
            Some(old) => self.change(key, &old, None),
            None => Ok(()),
        }
    }

    fn keys(&mut self, range: &TextRange, limit: usize) -> Result<KeyChunk> {
        let (mut chunk, mut bytes) = (KeyChunk::default(), 0);
        self.transaction.scan(data_range(range).borrowed(), false, &mut |physical, value| {
            if let Some(key) = decode_data(physical) {
                bytes += value.len();
                chunk.keys.push(key);
                chunk.has_more = chunk.keys.len() >= limit || bytes >= MAX_CHUNK_BYTES;
            }
            if chunk.has_more { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        Ok(chunk)
    }

    fn due(&mut self, limit: usize) -> Result<Due> {
        let (mut items, mut has_more) = (Vec::new(), false);
        self.transaction.scan(due_range(self.now).borrowed(), false, &mut |physical, _| {
            items.push(physical.to_vec());
            has_more = items.len() >= limit;
            if has_more { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        let mut due = Due { keys: Vec::new(), has_more };
        for item in items {
            // The index is derived from the entries, so the entry is right if index and entry disagree.
            let found = decode_index(&item);
            let actual = match &found {
                Some((_, key)) => self.stored(key)?.and_then(|stored| stored::deadline(key, &stored).ok()),
                None => None,
            };
            match found {
                Some((deadline, key)) if actual == Some(deadline) => due.keys.push(key),
                _ => {
                    self.changes += 1;
                    self.transaction.remove(&item)?;
                }
            }
        }
        Ok(due)
    }
}
