//! The engine that keeps everything until its deadline.

mod commit;
mod shard;

use std::sync::Arc;

use bytes::Bytes;
use kv_core::{Entry, Key, SetOptions, SetOutcome, Version};
use parking_lot::RwLock;

use self::shard::{Shard, Shared};
use crate::context::Context;
use crate::decide::{self, Decision};
use crate::order::Order;
use crate::slot::{Now, Slot};
use crate::sweep::{BATCH, yield_now};

/// Shards by hash for reading and writing, and one order over all of them for `list`.
///
/// Locks are taken shard before order; several shards in ascending place. Nothing waits while it holds one.
#[derive(Debug)]
pub(crate) struct Unbounded {
    pub(crate) context: Arc<Context>,
    shards: Box<[RwLock<Shard>; SHARDS]>,
    shared: Shared,
}

/// A power of two, so that a place is a few bits of the hash, and as many as a word has, so that a set of places is one.
const SHARDS: usize = u64::BITS as usize;

impl Unbounded {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        let shared = Shared { hasher: hashbrown::DefaultHashBuilder::default(), order: Order::new() };
        Self { context, shards: Box::new(std::array::from_fn(|_| RwLock::default())), shared }
    }

    /// Out of line, as `set`: then the large answer is made where the caller wants it, and moving it costs as much as
    /// finding it.
    #[inline(never)]
    pub(crate) fn get(&self, key: &Key) -> Option<Entry> {
        let hash = self.shared.hash(key);
        let shard = self.shard(hash).read();
        match shard.find(hash, key) {
            Some(slot) if slot.is_live(&self.context.now()) => Some(slot.entry()),
            _ => None,
        }
    }

    #[inline(never)]
    pub(crate) fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> SetOutcome {
        self.mutate(key, |current, now| decide::set(current, value, Version::random(), options, now))
    }

    pub(crate) fn contains(&self, key: &Key) -> bool {
        let hash = self.shared.hash(key);
        self.shard(hash).read().find(hash, key).is_some_and(|slot| slot.is_live(&self.context.now()))
    }

    pub(crate) fn get_many(&self, keys: &[Key]) -> Vec<Option<Entry>> {
        self.read_many(keys, Slot::entry)
    }

    pub(crate) fn contains_many(&self, keys: &[Key]) -> Vec<bool> {
        self.read_many(keys, |_| ()).iter().map(Option::is_some).collect()
    }

    pub(crate) fn order(&self) -> &Order {
        &self.shared.order
    }

    /// Decides over the slot of a key and does it, as one atomic step.
    pub(crate) fn mutate<T>(&self, key: &Key, decide: impl FnOnce(Option<&Slot>, &Now<'_>) -> Decision<T>) -> T {
        let hash = self.shared.hash(key);
        let now = self.context.now();
        let (answer, change) =
            self.shard(hash).write().mutate(&self.shared, hash, key, |current| decide(current, &now));
        if change.happened {
            self.context.changed(key, change.is_passing);
        }
        answer
    }

    /// Removes what has expired and tells how much it was.
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

    /// Whether no entry has a deadline.
    pub(crate) fn is_swept(&self) -> bool {
        self.shards.iter().all(|shard| shard.read().deadlines() == 0)
    }

    pub(crate) fn clear(&self) {
        for shard in self.shards.iter() {
            // Under the lock, so that no key of the shard comes between map and order; values are dropped behind it.
            let dropped = {
                let mut shard = shard.write();
                shard.keys().for_each(|key| self.shared.order.remove(key));
                std::mem::take(&mut *shard)
            };
            drop(dropped);
        }
    }

    /// How many entries there are, swept or not, and how many of them have a deadline.
    pub(crate) fn count(&self) -> (usize, usize) {
        self.shards
            .iter()
            .map(RwLock::read)
            .fold((0, 0), |(entries, deadlines), shard| (entries + shard.len(), deadlines + shard.deadlines()))
    }

    /// Takes the lock of each shard once, in ascending place, and then finds all slots before it reads any: without an
    /// atomic step in between, the processor waits for the memory of several slots at a time. Among a million entries that
    /// makes a page twice as fast.
    fn read_many<T>(&self, keys: &[Key], read: impl Fn(&Slot) -> T) -> Vec<Option<T>> {
        let mut found = Vec::with_capacity(keys.len());
        for keys in keys.chunks(BATCH) {
            let hashes: Vec<_> = keys.iter().map(|key| self.shared.hash(key)).collect();
            let wanted = hashes.iter().fold(0_u64, |wanted, hash| wanted | 1 << place(*hash));
            let shards: Vec<_> = self
                .shards
                .iter()
                .enumerate()
                .map(|(at, shard)| (wanted >> at & 1 == 1).then(|| shard.read()))
                .collect();
            let find = |(hash, key): (&u64, &Key)| {
                let shard = shards.get(place(*hash)).and_then(Option::as_ref);
                shard.and_then(|shard| shard.find(*hash, key))
            };
            let slots: Vec<_> = hashes.iter().zip(keys).map(find).collect();
            // Cloning a value is such an atomic step, on memory that is as far away: looking at it first fetches many at once.
            slots.iter().flatten().for_each(|slot| _ = slot.value.is_unique());
            let now = self.context.now();
            found.extend(slots.into_iter().map(|slot| slot.filter(|slot| slot.is_live(&now)).map(&read)));
        }
        found
    }

    fn sweep_batch(&self, shard: &RwLock<Shard>) -> usize {
        let now = self.context.now();
        // Most shards have nothing due, and looking must not stop their readers.
        if !shard.read().is_due(&now) {
            return 0;
        }
        let swept = shard.write().sweep(&self.shared, &now, BATCH);
        for key in &swept {
            self.context.changed(key, false);
        }
        swept.len()
    }

    #[inline]
    fn shard(&self, hash: u64) -> &RwLock<Shard> {
        self.shard_at(place(hash))
    }

    #[expect(clippy::indexing_slicing, reason = "a place is below the number of shards")]
    fn shard_at(&self, place: usize) -> &RwLock<Shard> {
        &self.shards[place]
    }
}

/// The place of a hash's shard. The map inside the shard goes by the lowest and the topmost bits.
#[inline]
fn place(hash: u64) -> usize {
    (hash >> 32) as usize % SHARDS
}
