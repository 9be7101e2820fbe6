//! A batch under construction: the tree with pending changes laid over it.

use std::sync::Arc;
use std::time::SystemTime;

use hashbrown::hash_map::Entry as MapEntry;
use kv_core::{Deadline, Entry, Error, Key, Result, stored};
use sled::{IVec, Tree};

use crate::codec::{data_key, entry};
use crate::error::{from_sled, is_fatal};
use crate::health::Poison;
use crate::pending::{PendingChanges, PendingRecord};

/// Reads a key from the pending changes or, if they have no record of the key, from the tree. Adds changes. The owner
/// excludes other writers, so the tree does not change while a builder exists.
pub(crate) struct BatchBuilder<'t> {
    tree: &'t Tree,
    now: SystemTime,
    changes: PendingChanges,
    /// Changes that the worker is writing to the tree. They are newer than the tree and older than `changes`.
    flushing: Option<Arc<PendingChanges>>,
    /// The keys that this builder has changed, in the order of their first change. Watchers are notified of these keys.
    changed_keys: Vec<Key>,
    /// The first error after which sled must not be used any more.
    poison: Option<Poison>,
}

impl<'t> BatchBuilder<'t> {
    /// Returns a builder that adds to existing changes.
    pub(crate) fn new(
        tree: &'t Tree,
        now: SystemTime,
        mut changes: PendingChanges,
        flushing: Option<Arc<PendingChanges>>,
    ) -> Self {
        changes.generation += 1;
        Self { tree, now, changes, flushing, changed_keys: Vec::new(), poison: None }
    }

    /// Returns all changes, including those that were passed to [`BatchBuilder::new`], and the keys that this builder
    /// changed.
    pub(crate) fn finish(self) -> (PendingChanges, Vec<Key>) {
        (self.changes, self.changed_keys)
    }

    /// Returns the error, if there was one, after which neither this batch nor a later batch may be applied.
    pub(crate) fn take_poison(&mut self) -> Option<Poison> {
        self.poison.take()
    }

    /// Sets the time at which the next writes are evaluated. A batch may be older than the call of a write that joins
    /// it. If the write were evaluated at the time of the batch, its entry would expire too soon (clause T-2).
    pub(crate) fn set_now(&mut self, now: SystemTime) {
        self.now = now;
    }

    /// The time at which writes are evaluated.
    pub(crate) fn now(&self) -> SystemTime {
        self.now
    }

    pub(crate) fn tree(&self) -> &'t Tree {
        self.tree
    }

    pub(crate) fn changes(&self) -> &PendingChanges {
        &self.changes
    }

    /// Returns the stored bytes that a key has after the changes so far.
    pub(crate) fn stored(&mut self, key: &Key) -> Result<Option<IVec>> {
        Ok(self.record(key)?.after.clone())
    }

    /// Returns the deadline of a live entry.
    pub(crate) fn live_deadline(&mut self, key: &Key) -> Result<Option<Deadline>> {
        let now = self.now;
        let Some(stored) = &self.record(key)?.after else { return Ok(None) };
        let deadline = stored::deadline(key, stored)?;
        Ok((!deadline.has_passed(now)).then_some(deadline))
    }

    /// Returns a live entry and its deadline.
    pub(crate) fn live(&mut self, key: &Key) -> Result<Option<(Entry, Deadline)>> {
        let Some(stored) = self.stored(key)? else { return Ok(None) };
        if stored::deadline(key, &stored)?.has_passed(self.now) {
            return Ok(None);
        }
        entry(key, stored).map(Some)
    }

    /// Sets or removes the stored bytes of a key.
    pub(crate) fn put(&mut self, key: &Key, stored: Option<Vec<u8>>) -> Result<()> {
        let generation = self.changes.generation;
        let record = self.record(key)?;
        let after = stored.map(IVec::from);
        let bytes = |stored: Option<&IVec>| stored.map_or(0, |stored| stored.len());
        let (old_bytes, new_bytes) = (bytes(record.after.as_ref()), bytes(after.as_ref()));
        record.after = after;
        if record.changed.replace(generation) != Some(generation) {
            self.changed_keys.push(key.clone());
        }
        self.changes.bytes = (self.changes.bytes + new_bytes).saturating_sub(old_bytes);
        Ok(())
    }

    /// Removes an index entry whose deadline no entry has.
    pub(crate) fn remove_index_key(&mut self, physical: IVec) {
        self.changes.stray_index_keys.insert(physical);
    }

    /// Returns the deadline of the key's record in the tree, without the changes of this builder. The index in the tree
    /// should hold this deadline.
    pub(crate) fn deadline_in_tree(&mut self, key: &Key) -> Result<Option<Deadline>> {
        let record = self.record(key)?;
        Ok(record.before.as_ref().and_then(|stored| stored::deadline(key, stored).ok()))
    }

    /// Converts an error of reading the tree. Keeps a fatal error for [`BatchBuilder::take_poison`].
    pub(crate) fn tree_error(&mut self, error: sled::Error) -> Error {
        convert(&mut self.poison, error)
    }

    fn record(&mut self, key: &Key) -> Result<&mut PendingRecord> {
        match self.changes.records.entry(key.clone()) {
            MapEntry::Occupied(slot) => Ok(slot.into_mut()),
            MapEntry::Vacant(slot) => {
                let flushing = self.flushing.as_ref().and_then(|flushing| flushing.records.get(key));
                let before = match flushing {
                    Some(record) => record.after.clone(),
                    None => self.tree.get(data_key(key)).map_err(|error| convert(&mut self.poison, error))?,
                };
                self.changes.bytes += key.as_str().len() + before.as_ref().map_or(0, |stored| stored.len());
                Ok(slot.insert(PendingRecord { after: before.clone(), before, changed: None }))
            }
        }
    }
}

fn convert(poison: &mut Option<Poison>, error: sled::Error) -> Error {
    let error = from_sled(error);
    if is_fatal(&error) {
        poison.get_or_insert_with(|| Poison::failed(&error));
    }
    error
}
