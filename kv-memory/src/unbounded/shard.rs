//! One of the maps that the keys are spread over.

use std::hash::{BuildHasher, Hasher};

use hashbrown::DefaultHashBuilder;
use hashbrown::hash_table::{Entry, HashTable};
use kv_core::Key;

use crate::context::Changed;
use crate::deadlines::Deadlines;
use crate::decide::{Change, Decision};
use crate::order::Order;
use crate::slot::{Now, Slot};

/// Slots by key, and which of them have a deadline. All of it is behind one lock.
#[derive(Debug, Default)]
pub(crate) struct Shard {
    records: HashTable<Record>,
    deadlines: Deadlines,
}

#[derive(Debug)]
struct Record {
    key: Key,
    slot: Slot,
}

/// What a shard shares with the others: how keys are hashed, and the order of all keys.
///
/// A key is in the order exactly as long as it is in its shard's map, because both change under the shard's lock.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) hasher: DefaultHashBuilder,
    pub(crate) order: Order,
}

impl Shared {
    #[inline]
    pub(crate) fn hash(&self, key: &Key) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(key.as_str().as_bytes());
        hasher.finish()
    }
}

/// A map of this capacity is not worth shrinking.
const SMALL: usize = 64;

impl Shard {
    /// The slot of a key, also when it has expired.
    #[inline]
    pub(crate) fn find(&self, hash: u64, key: &Key) -> Option<&Slot> {
        self.records.find(hash, |record| record.key == *key).map(|record| &record.slot)
    }

    /// Decides over the slot of a key and does it.
    pub(crate) fn mutate<T>(
        &mut self,
        shared: &Shared,
        hash: u64,
        key: &Key,
        decide: impl FnOnce(Option<&Slot>) -> Decision<T>,
    ) -> (T, Changed) {
        let entry = self.records.entry(hash, |record| record.key == *key, |record| shared.hash(&record.key));
        match entry {
            Entry::Occupied(mut occupied) => {
                let Decision { answer, change } = decide(Some(&occupied.get().slot));
                match change {
                    Change::Keep => (answer, Changed::default()),
                    Change::Put(slot) => {
                        let is_passing = slot.has_deadline();
                        let current = &mut occupied.get_mut().slot;
                        let left = std::mem::replace(current, slot);
                        self.deadlines.remove(&left);
                        self.deadlines.insert(current, key);
                        (answer, Changed { happened: true, is_passing, left: Some(left) })
                    }
                    Change::Remove => {
                        let (Record { key, slot: left }, _) = occupied.remove();
                        self.deadlines.remove(&left);
                        shared.order.remove(&key);
                        self.shrink(shared);
                        (answer, Changed { happened: true, is_passing: false, left: Some(left) })
                    }
                }
            }
            Entry::Vacant(vacant) => {
                let Decision { answer, change } = decide(None);
                let Change::Put(slot) = change else { return (answer, Changed::default()) };
                let is_passing = slot.has_deadline();
                self.deadlines.insert(&slot, key);
                vacant.insert(Record { key: key.clone(), slot });
                shared.order.insert(key.clone());
                (answer, Changed { happened: true, is_passing, left: None })
            }
        }
    }

    /// Removes up to `max` expired entries and gives their keys.
    pub(crate) fn sweep(&mut self, shared: &Shared, now: &Now<'_>, max: usize) -> Vec<Key> {
        let mut swept = Vec::new();
        while swept.len() < max {
            let Some(key) = self.deadlines.pop_due(now) else { break };
            // The index and the map change under one lock, so the record is there, and it is this deadline that passed.
            if let Ok(record) = self.records.find_entry(shared.hash(&key), |record| record.key == key) {
                record.remove();
                shared.order.remove(&key);
            }
            swept.push(key);
        }
        self.shrink(shared);
        swept
    }

    /// Whether a sweep would find something.
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

    /// Gives memory back when less than an eighth of the map is used. What is left may then double before the map grows,
    /// so the cost is spread over the removals that came before.
    fn shrink(&mut self, shared: &Shared) {
        let (used, capacity) = (self.records.len(), self.records.capacity());
        if capacity > SMALL && used < capacity / 8 {
            self.records.shrink_to(used * 2, |record| shared.hash(&record.key));
        }
    }
}
