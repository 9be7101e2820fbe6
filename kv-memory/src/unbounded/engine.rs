//! The unbounded engine: it keeps every entry until its deadline.

use std::sync::Arc;

use bytes::Bytes;
use kv_core::{Entry, Key, SetOptions, SetOutcome, Version};
use parking_lot::RwLock;

use super::shard::{KeyIndex, Shard};
use crate::order::Order;
use crate::services::Services;
use crate::slot::{Now, Slot};
use crate::update::{self, Update};
use crate::yielding::{BATCH, charge, yield_now};

/// The shards, and one ordered index of all keys for `list` and `clear`. The hash of a key determines its shard.
///
/// Lock order: shards in ascending position, then the ordered index. No task awaits while it holds one of these locks.
#[derive(Debug)]
pub(crate) struct Unbounded {
    pub(crate) services: Arc<Services>,
    shards: Box<[RwLock<Shard>; SHARDS]>,
    pub(super) index: KeyIndex,
}

/// The number of shards. The number is a power of two, so that a position is a few bits of the hash. It is also the
/// number of bits of a `u64`, so that a set of positions fits into a `u64`.
const SHARDS: usize = u64::BITS as usize;

impl Unbounded {
    pub(crate) fn new(services: Arc<Services>) -> Self {
        let index = KeyIndex { hasher: hashbrown::DefaultHashBuilder::default(), order: Order::new() };
        Self { services, shards: Box::new(std::array::from_fn(|_| RwLock::default())), index }
    }

    // `get` and `set` are not inlined, so that the compiler builds their large results in the memory of the caller.
    // Moving the result would cost as much as finding it.
    #[inline(never)]
    pub(crate) fn get(&self, key: &Key) -> Option<Entry> {
        let hash = self.index.hash(key);
        let shard = self.shard(hash).read();
        match shard.find(hash, key) {
            Some(slot) if slot.is_live(&self.services.now()) => Some(slot.entry()),
            _ => None,
        }
    }

    #[inline(never)]
    pub(crate) fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> SetOutcome {
        self.update(key, |current, now| update::set(current, value, Version::random(), options, now))
    }

    pub(crate) fn contains(&self, key: &Key) -> bool {
        let hash = self.index.hash(key);
        self.shard(hash).read().find(hash, key).is_some_and(|slot| slot.is_live(&self.services.now()))
    }

    pub(crate) async fn get_many(&self, keys: &[Key]) -> Vec<Option<Entry>> {
        self.read_many(keys, Slot::entry).await
    }

    pub(crate) async fn contains_many(&self, keys: &[Key]) -> Vec<bool> {
        self.read_many(keys, |_| ()).await.iter().map(Option::is_some).collect()
    }

    pub(crate) fn order(&self) -> &Order {
        &self.index.order
    }

    /// Computes an update from the slot of a key and applies it, as one atomic step.
    pub(crate) fn update<T>(&self, key: &Key, update: impl FnOnce(Option<&Slot>, &Now<'_>) -> Update<T>) -> T {
        let hash = self.index.hash(key);
        let now = self.services.now();
        let mut shard = self.shard(hash).write();
        let (outcome, applied) =
            shard.update(&self.index, &self.services.changes, hash, key, |current| update(current, &now));
        drop(shard);
        if applied.has_deadline {
            self.services.sweeper.wake();
        }
        outcome
    }

    /// Removes the expired entries and returns their number.
    pub(crate) async fn sweep(&self) -> u64 {
        let mut count = 0;
        for shard in self.shards.iter() {
            loop {
                let swept = self.sweep_batch(shard);
                count += swept as u64;
                if swept < BATCH {
                    break;
                }
                yield_now().await;
            }
        }
        count
    }

    /// True if no entry has a deadline.
    pub(crate) fn is_swept(&self) -> bool {
        self.shards.iter().all(|shard| shard.read().deadlines() == 0)
    }

    pub(crate) fn clear(&self) {
        for shard in self.shards.iter() {
            // Change the shard and the ordered index under the same lock, so that both have the same keys. Drop the
            // values after the lock was released, because freeing them may take long.
            let removed = {
                let mut shard = shard.write();
                shard.keys().for_each(|key| self.index.order.remove(key));
                std::mem::take(&mut *shard)
            };
            drop(removed);
        }
    }

    /// The number of entries, including expired entries, and the number of entries with a deadline.
    pub(crate) fn count(&self) -> (usize, usize) {
        self.shards
            .iter()
            .map(RwLock::read)
            .fold((0, 0), |(entries, deadlines), shard| (entries + shard.len(), deadlines + shard.deadlines()))
    }

    /// Reads the live slots of several keys, in batches. For each batch, this method takes the lock of each shard once,
    /// in ascending position. Then it finds all slots before it reads the first slot. Without atomic operations between
    /// the lookups, the processor waits for the memory of several slots at a time. With a million entries, a page is
    /// twice as fast as with atomic operations in between.
    async fn read_many<T: Send>(&self, keys: &[Key], read: impl Fn(&Slot) -> T + Send + Sync) -> Vec<Option<T>> {
        let mut found = Vec::with_capacity(keys.len());
        for keys in keys.chunks(BATCH) {
            charge(keys.len()).await;
            let hashes: Vec<_> = keys.iter().map(|key| self.index.hash(key)).collect();
            let positions = hashes.iter().fold(0_u64, |positions, hash| positions | 1 << position(*hash));
            let shards: Vec<_> = self
                .shards
                .iter()
                .enumerate()
                .map(|(position, shard)| (positions >> position & 1 == 1).then(|| shard.read()))
                .collect();
            let find = |(hash, key): (&u64, &Key)| {
                let shard = shards.get(position(*hash)).and_then(Option::as_ref);
                shard.and_then(|shard| shard.find(*hash, key))
            };
            let slots: Vec<_> = hashes.iter().zip(keys).map(find).collect();
            // Cloning a value is an atomic operation on memory that is probably not in the processor's cache.
            // `is_unique` only reads that memory, so the processor fetches the memory of several values at a time.
            slots.iter().flatten().for_each(|slot| _ = slot.value.is_unique());
            let now = self.services.now();
            found.extend(slots.into_iter().map(|slot| slot.filter(|slot| slot.is_live(&now)).map(&read)));
        }
        found
    }

    fn sweep_batch(&self, shard: &RwLock<Shard>) -> usize {
        let now = self.services.now();
        // Check for a due entry under the read lock first. Most shards have none, and the write lock would block their
        // readers.
        if !shard.read().is_due(&now) {
            return 0;
        }
        let mut shard = shard.write();
        let swept = shard.sweep(&self.index, &now, BATCH);
        for key in &swept {
            self.services.notify(key);
        }
        drop(shard);
        swept.len()
    }

    #[inline]
    fn shard(&self, hash: u64) -> &RwLock<Shard> {
        self.shard_at(position(hash))
    }

    #[expect(clippy::indexing_slicing, reason = "a position is below the number of shards")]
    pub(super) fn shard_at(&self, position: usize) -> &RwLock<Shard> {
        &self.shards[position]
    }
}

/// Returns the position of the shard for a hash. The position is in the middle bits of the hash, because the hash table
/// in the shard uses the lowest and the highest bits.
#[inline]
pub(super) fn position(hash: u64) -> usize {
    (hash >> 32) as usize % SHARDS
}
