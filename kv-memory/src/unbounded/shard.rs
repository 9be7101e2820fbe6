//! One shard of the unbounded engine.

use std::hash::{BuildHasher, Hasher};

use hashbrown::DefaultHashBuilder;
use hashbrown::hash_table::{Entry, HashTable};
use kv_core::Key;
use kv_core::hub::{Changes, Hub, Unwatched};

use crate::deadlines::Deadlines;
use crate::order::Order;
use crate::slot::{Now, Slot};
use crate::update::{Change, Update};

/// The slots of some keys, and the index of these slots by deadline. One lock guards both.
#[derive(Debug, Default)]
pub(crate) struct Shard {
    records: HashTable<Record>,
    deadlines: Deadlines,
}

#[derive(Debug)]
struct Record {
    key: Key,
    slot: Slot,
    unwatched: Unwatched,
}

/// The hasher and the ordered index, which all shards share.
///
/// A key is in `order` exactly while it has a slot in its shard, because both change under the lock of the shard.
#[derive(Debug)]
pub(crate) struct KeyIndex {
    pub(crate) hasher: DefaultHashBuilder,
    pub(crate) order: Order,
}

impl KeyIndex {
    #[inline]
    pub(crate) fn hash(&self, key: &Key) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(key.as_str().as_bytes());
        hasher.finish()
    }
}

/// The effect that an update had on a shard.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    /// True if the new slot has a deadline.
    pub(crate) has_deadline: bool,
    /// The replaced or removed slot. The caller drops it after it has released the lock, because freeing a large value
    /// takes long.
    #[expect(dead_code, reason = "kept only to be dropped later")]
    pub(crate) old: Option<Slot>,
}

/// The maximum capacity of a hash table that is never shrunk.
const MIN_SHRINK_CAPACITY: usize = 64;

impl Shard {
    /// Returns the slot of a key. The entry may have expired.
    #[inline]
    pub(crate) fn find(&self, hash: u64, key: &Key) -> Option<&Slot> {
        self.records.find(hash, |record| record.key == *key).map(|record| &record.slot)
    }

    /// Computes an update from the slot of a key and applies it. Notifies the hub of a change, so the caller must hold
    /// the lock of the shard until the whole write may become visible (clause W-5).
    #[inline]
    pub(crate) fn update<T>(
        &mut self,
        index: &KeyIndex,
        changes: &Hub<Changes>,
        hash: u64,
        key: &Key,
        update: impl FnOnce(Option<&Slot>) -> Update<T>,
    ) -> (T, Applied) {
        let entry = self.records.entry(hash, |record| record.key == *key, |record| index.hash(&record.key));
        match entry {
            Entry::Occupied(mut occupied) => {
                let Update { outcome, change } = update(Some(&occupied.get().slot));
                match change {
                    Change::Keep => (outcome, Applied::default()),
                    Change::Put(slot) => {
                        let has_deadline = slot.has_deadline();
                        let Record { key: _, slot: current, unwatched } = occupied.get_mut();
                        let old = std::mem::replace(current, slot);
                        self.deadlines.remove(&old);
                        self.deadlines.insert(current, key);
                        changes.notify_unless(unwatched, key);
                        (outcome, Applied { has_deadline, old: Some(old) })
                    }
                    Change::Remove => {
                        let (Record { key, slot: old, mut unwatched }, _) = occupied.remove();
                        self.deadlines.remove(&old);
                        changes.notify_unless(&mut unwatched, &key);
                        // A list reads the index without the lock of the shard, so it must not miss the key earlier.
                        index.order.remove(&key);
                        self.shrink(index);
                        (outcome, Applied { has_deadline: false, old: Some(old) })
                    }
                }
            }
            Entry::Vacant(vacant) => {
                let Update { outcome, change } = update(None);
                let Change::Put(slot) = change else { return (outcome, Applied::default()) };
                let has_deadline = slot.has_deadline();
                self.deadlines.insert(&slot, key);
                let mut unwatched = Unwatched::default();
                // A list reads the index without the lock of the shard, so it must find the key before the notification,
                // and then wait for the lock.
                index.order.insert(key.clone());
                changes.notify_unless(&mut unwatched, key);
                vacant.insert(Record { key: key.clone(), slot, unwatched });
                (outcome, Applied { has_deadline, old: None })
            }
        }
    }

    /// Removes up to `max` expired entries and returns their keys.
    pub(crate) fn sweep(&mut self, index: &KeyIndex, now: &Now<'_>, max: usize) -> Vec<Key> {
        let mut swept = Vec::new();
        while swept.len() < max {
            let Some(key) = self.deadlines.pop_due(now) else { break };
            // `deadlines` and `records` change under one lock, so the record exists and has this deadline.
            if let Ok(record) = self.records.find_entry(index.hash(&key), |record| record.key == key) {
                record.remove();
                index.order.remove(&key);
            }
            swept.push(key);
        }
        self.shrink(index);
        swept
    }

    /// True if at least one entry is due.
    pub(crate) fn is_due(&self, now: &Now<'_>) -> bool {
        self.deadlines.is_due(now)
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.records.iter().map(|record| &record.key)
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    pub(crate) fn deadlines(&self) -> usize {
        self.deadlines.len()
    }

    /// Shrinks the hash table if less than an eighth of its capacity is used. The table keeps space for twice the
    /// number of entries, so that the amortised cost of shrinking and growing is constant per operation.
    fn shrink(&mut self, index: &KeyIndex) {
        let (used, capacity) = (self.records.len(), self.records.capacity());
        if capacity > MIN_SHRINK_CAPACITY && used < capacity / 8 {
            self.records.shrink_to(used * 2, |record| index.hash(&record.key));
        }
    }
}
