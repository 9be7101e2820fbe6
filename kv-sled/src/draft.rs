//! A batch that is being made: what it changes, seen over what the tree holds.

use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use std::time::SystemTime;

use hashbrown::hash_map::Entry as Place;
use kv_core::{Deadline, Entry, Error, Key, Result, stored};
use sled::{IVec, Tree};

use crate::changes::{Changes, Record};
use crate::codec::{Physical, data_key, entry, index_range};
use crate::decide;
use crate::error::{from_sled, is_fatal};
use crate::health::Trouble;

/// Judged changes that are not applied yet. Whoever judges has them for itself, so the tree stands still meanwhile.
pub(crate) struct Draft<'t> {
    tree: &'t Tree,
    now: SystemTime,
    changes: Changes,
    /// What is just being written, over the tree.
    going: Option<Arc<Changes>>,
    /// The keys that were changed since it was begun or gone on with, in order, for whoever watches.
    changed: Vec<Key>,
    /// What the tree has met that makes it unfit for more.
    trouble: Option<Trouble>,
}

impl<'t> Draft<'t> {
    /// Goes on with changes; with none it is a new one.
    pub(crate) fn over(tree: &'t Tree, now: SystemTime, mut changes: Changes, going: Option<Arc<Changes>>) -> Self {
        changes.turn += 1;
        Self { tree, now, changes, going, changed: Vec::new(), trouble: None }
    }

    /// The changes, those included that it went on with, and the keys of its own.
    pub(crate) fn end(self) -> (Changes, Vec<Key>) {
        (self.changes, self.changed)
    }

    /// Takes out what makes the tree unfit for this batch and every other.
    pub(crate) fn take_trouble(&mut self) -> Option<Trouble> {
        self.trouble.take()
    }

    /// Judges by this moment from here on. A write may join a batch that was begun before its call, and must not be judged by
    /// a moment before it: its time to live would end too soon (clause T-2).
    pub(crate) fn set_now(&mut self, now: SystemTime) {
        self.now = now;
    }

    /// The moment by which writes are judged.
    pub(crate) fn now(&self) -> SystemTime {
        self.now
    }

    /// The stored bytes under a key, as the batch has them so far.
    pub(crate) fn stored(&mut self, key: &Key) -> Result<Option<IVec>> {
        Ok(self.record(key)?.after.clone())
    }

    /// The deadline of the live entry under a key, where there is one.
    pub(crate) fn live_deadline(&mut self, key: &Key) -> Result<Option<Deadline>> {
        let now = self.now;
        let Some(stored) = &self.record(key)?.after else { return Ok(None) };
        let deadline = stored::deadline(key, stored)?;
        Ok((!deadline.has_passed(now)).then_some(deadline))
    }

    /// The live entry under a key, and its deadline, where there is one.
    pub(crate) fn live(&mut self, key: &Key) -> Result<Option<(Entry, Deadline)>> {
        let Some(stored) = self.stored(key)? else { return Ok(None) };
        if stored::deadline(key, &stored)?.has_passed(self.now) {
            return Ok(None);
        }
        entry(key, stored).map(Some)
    }

    /// Changes what stands under a key.
    pub(crate) fn put(&mut self, key: &Key, stored: Option<Vec<u8>>) -> Result<()> {
        let turn = self.changes.turn;
        let record = self.record(key)?;
        let after = stored.map(IVec::from);
        let bytes = |stored: Option<&IVec>| stored.map_or(0, |stored| stored.len());
        let (less, more) = (bytes(record.after.as_ref()), bytes(after.as_ref()));
        record.after = after;
        if record.changed.replace(turn) != Some(turn) {
            self.changed.push(key.clone());
        }
        self.changes.bytes = (self.changes.bytes + more).saturating_sub(less);
        Ok(())
    }

    /// Removes entries whose deadline has passed, at most this many, the oldest first. Gives how many it looked at and how
    /// many of them were there.
    pub(crate) fn sweep(&mut self, limit: usize) -> Result<(usize, u64)> {
        let Ok(since) = self.now.duration_since(SystemTime::UNIX_EPOCH) else { return Ok((0, 0)) };
        let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        let (mut seen, mut removed) = (0, 0);
        for item in self.tree.range(index_range(millis)).take(limit) {
            let (physical, _) = item.map_err(|error| self.failed(error))?;
            seen += 1;
            let Physical::Index(deadline, key) = Physical::read(&physical) else {
                self.changes.strays.insert(physical);
                continue;
            };
            // The index follows the record. Where they do not agree, the record is right.
            let actual = self.stored(&key)?.and_then(|stored| stored::deadline(&key, &stored).ok());
            if actual == Some(deadline) {
                self.put(&key, None)?;
                removed += 1;
            } else if self.before_deadline(&key)? != Some(deadline) {
                self.changes.strays.insert(physical);
            }
        }
        Ok((seen, removed))
    }

    /// Removes what stands in a range, at most this many records and about this many bytes. Gives how many live entries went,
    /// and behind which physical key to go on.
    pub(crate) fn clear(
        &mut self,
        range: &(Bound<Vec<u8>>, Bound<Vec<u8>>),
        limit: usize,
        max_bytes: usize,
    ) -> Result<(u64, Option<IVec>)> {
        let mut removed = self.clear_pending(range)?;
        let mut bytes = 0;
        for (seen, item) in self.tree.range::<Vec<u8>, _>(range.clone()).enumerate() {
            let (physical, stored) = item.map_err(|error| self.failed(error))?;
            bytes += stored.len();
            if let Physical::Data(key) = Physical::read(&physical) {
                removed += u64::from(decide::remove(self, &key)?);
            }
            if seen + 1 >= limit || bytes >= max_bytes {
                return Ok((removed, Some(physical)));
            }
        }
        Ok((removed, None))
    }

    /// Removes what only this batch has put into a range: a walk over the tree does not meet it.
    fn clear_pending(&mut self, range: &(Bound<Vec<u8>>, Bound<Vec<u8>>)) -> Result<u64> {
        let is_pending = |record: &Record| record.before.is_none() && record.after.is_some();
        let pending =
            self.changes.records.iter().filter(|(key, record)| is_pending(record) && range.contains(&data_key(key)));
        let pending: Vec<Key> = pending.map(|(key, _)| key.clone()).collect();
        let mut removed = 0;
        for key in pending {
            removed += u64::from(decide::remove(self, &key)?);
        }
        Ok(removed)
    }

    /// What the index says of the key before the batch.
    fn before_deadline(&mut self, key: &Key) -> Result<Option<Deadline>> {
        let record = self.record(key)?;
        Ok(record.before.as_ref().and_then(|stored| stored::deadline(key, stored).ok()))
    }

    fn failed(&mut self, error: sled::Error) -> Error {
        note(&mut self.trouble, error)
    }

    fn record(&mut self, key: &Key) -> Result<&mut Record> {
        match self.changes.records.entry(key.clone()) {
            Place::Occupied(place) => Ok(place.into_mut()),
            Place::Vacant(place) => {
                let going = self.going.as_ref().and_then(|going| going.records.get(key));
                let before = match going {
                    Some(record) => record.after.clone(),
                    None => self.tree.get(data_key(key)).map_err(|error| note(&mut self.trouble, error))?,
                };
                self.changes.bytes += key.as_str().len() + before.as_ref().map_or(0, |stored| stored.len());
                Ok(place.insert(Record { after: before.clone(), before, changed: None }))
            }
        }
    }
}

fn note(trouble: &mut Option<Trouble>, error: sled::Error) -> Error {
    let error = from_sled(error);
    if is_fatal(&error) {
        trouble.get_or_insert_with(|| Trouble::failed(&error));
    }
    error
}

#[cfg(test)]
mod tests {
    use kv_core::{ListQuery, Version};

    use super::*;
    use crate::codec::data_range;

    #[test]
    fn a_clear_takes_what_was_written_earlier_in_its_batch() {
        let db = sled::Config::new().temporary(true).open().unwrap();
        let mut draft = Draft::over(&db, SystemTime::UNIX_EPOCH, Changes::default(), None);
        let (inside, outside) = (Key::new(["k", "1"]).unwrap(), Key::new(["l"]).unwrap());
        for key in [&inside, &outside] {
            let stored = stored::encode(key, &Version::random(), Deadline::NEVER, b"value");
            draft.put(key, Some(stored)).unwrap();
        }
        let range = data_range(ListQuery::new(Key::new(["k"]).unwrap()).range().unwrap());
        assert_eq!(draft.clear(&range, 10, 1_000).unwrap(), (1, None));
        assert!(draft.live(&inside).unwrap().is_none());
        assert!(draft.live(&outside).unwrap().is_some());
    }
}
