//! The bounded engine: it evicts entries to keep its bounds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use hashbrown::DefaultHashBuilder;
use kv_core::{Entry, Key, SetOptions, SetOutcome, Version};
use moka::future::Cache;
use moka::notification::RemovalCause;

use super::cached_slot::CachedSlot;
use super::indexes::Indexes;
use super::key_locks::KeyLocks;
use crate::bounds::Bounds;
use crate::config::EvictionPolicy;
use crate::order::Order;
use crate::services::Services;
use crate::slot::{Now, Slot};
use crate::update::{self, Change, Update};
use crate::yielding::{BATCH, yield_now};

/// A cache of slots, with indexes by key and by deadline.
///
/// Every write takes the key lock before it reads the current slot. The cache also has a lock per key, in
/// `and_compute_with`. This engine does not use the lock of the cache: taking that lock costs more than the write.
/// Plain inserts do not take that lock, so a compare-and-set by `and_compute_with` and a concurrent insert are not
/// linearizable.
///
/// Deadlines are stored in the slots, and the `Expiry` of the cache is not used. Therefore the time comes from the
/// store's clock, which a test can set, and deadlines are rounded as in every other store.
#[derive(Debug)]
pub(crate) struct Bounded {
    pub(crate) services: Arc<Services>,
    cache: Cache<Key, Arc<CachedSlot>, DefaultHashBuilder>,
    key_locks: KeyLocks,
    indexes: Arc<Indexes>,
    bounds: Bounds,
    /// The sum of the weights that were written since a write last ran the maintenance of the cache.
    written_weight: AtomicU64,
}

/// A write runs the maintenance of the cache after a weight of `capacity / MAINTENANCE_DIVISOR` was written. The cache
/// itself runs its maintenance about every 64 writes. This is too late if a few values fill the cache.
const MAINTENANCE_DIVISOR: u64 = 8;

/// The maximum number of stale keys that one write checks. It is greater than the average number of stale keys that a
/// write adds, so that the queue of stale keys does not grow.
const STALE_KEYS_PER_WRITE: usize = 2;

impl Bounded {
    /// The cost of a call over one key, as a multiple of the cost of `get` in the unbounded engine.
    pub(crate) const COST: usize = 4;

    pub(crate) fn new(services: Arc<Services>, bounds: Bounds, policy: EvictionPolicy) -> Self {
        let indexes = Arc::new(Indexes::new());
        let (listener_services, listener_indexes) = (Arc::clone(&services), Arc::clone(&indexes));
        let cache = Cache::builder()
            .max_capacity(bounds.capacity)
            .weigher(|_, slot: &Arc<CachedSlot>| slot.weight())
            .eviction_policy(match policy {
                EvictionPolicy::Lru => moka::policy::EvictionPolicy::lru(),
                EvictionPolicy::TinyLfu => moka::policy::EvictionPolicy::tiny_lfu(),
            })
            .eviction_listener(move |key: Arc<Key>, cached: Arc<CachedSlot>, cause| {
                let _ = cached.read(|slot| listener_indexes.remove_deadline(slot));
                // For the other causes, the engine itself keeps the ordered index up to date.
                if cause == RemovalCause::Size {
                    // Do not remove the key from the ordered index here: a concurrent write may have inserted the key
                    // again.
                    listener_indexes.push_stale(Key::clone(&key));
                    listener_services.notify(&key);
                }
            })
            .build_with_hasher(DefaultHashBuilder::default());
        Self { services, cache, key_locks: KeyLocks::new(), indexes, bounds, written_weight: AtomicU64::new(0) }
    }

    pub(crate) async fn get(&self, key: &Key) -> Option<Entry> {
        let cached = self.cache.get(key).await?;
        cached.read(|slot| slot.is_live(&self.services.now()).then(|| slot.entry())).flatten()
    }

    pub(crate) async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> SetOutcome {
        self.update(key, |current, now| update::set(current, value, Version::random(), options, now)).await
    }

    pub(crate) fn order(&self) -> &Order {
        &self.indexes.order
    }

    /// Computes an update from the slot of a key and applies it, as one atomic step.
    pub(crate) async fn update<T: Send>(
        &self,
        key: &Key,
        update: impl FnOnce(Option<&Slot>, &Now<'_>) -> Update<T> + Send,
    ) -> T {
        let (outcome, weight) = self.apply(key, update).await;
        self.maintain(weight).await;
        outcome
    }

    /// Removes the expired entries and returns their number. Also runs the maintenance of the cache and checks all
    /// stale keys.
    pub(crate) async fn sweep(&self) -> u64 {
        self.cache.run_pending_tasks().await;
        let mut count = 0;
        for stripe in self.indexes.stripes() {
            loop {
                let due = stripe.lock().due(&self.services.now(), BATCH);
                for due in &due {
                    let (was_removed, _) = self.apply(&due.key, |current, _| update::sweep(current, due)).await;
                    count += u64::from(was_removed);
                    // Usually the item was removed together with its slot. But a write whose future was dropped may
                    // have left an item without a slot.
                    stripe.lock().remove_due(due);
                }
                if due.len() < BATCH {
                    break;
                }
                yield_now().await;
            }
        }
        self.cache.run_pending_tasks().await;
        while self.check_stale(BATCH).await {
            yield_now().await;
        }
        count
    }

    /// True if no entry has a deadline and no key is stale.
    pub(crate) fn is_swept(&self) -> bool {
        !self.indexes.has_stale() && self.indexes.deadline_count() == 0
    }

    pub(crate) async fn clear(&self) {
        self.cache.invalidate_all();
        self.cache.run_pending_tasks().await;
        self.indexes.clear();
    }

    /// The number of entries at the last maintenance, including expired entries, and the number of items in the index
    /// by deadline.
    pub(crate) fn count(&self) -> (usize, usize) {
        (usize::try_from(self.cache.entry_count()).unwrap_or(usize::MAX), self.indexes.deadline_count())
    }

    /// Computes an update and applies it under the key lock. Returns the outcome, and the weight that was written.
    async fn apply<T: Send>(
        &self,
        key: &Key,
        update: impl FnOnce(Option<&Slot>, &Now<'_>) -> Update<T> + Send,
    ) -> (T, u64) {
        let _guard = self.key_locks.lock(key).await;
        // Call `contains_key` first, because `get` costs more: it records each miss for the eviction policy.
        let cached = if self.cache.contains_key(key) { self.cache.get(key).await } else { None };
        let mut follow_up = FollowUp { engine: self, key, unpublished: None, has_deadline: false, is_stale: false };
        let (outcome, action) = self.prepare(key, cached.as_deref(), update);
        let weight = match action {
            CacheAction::None => 0,
            CacheAction::Replaced { has_deadline } => {
                follow_up.has_deadline = has_deadline;
                cached.map_or(0, |cached| cached.weight().into())
            }
            CacheAction::Insert { cached, slot } => {
                follow_up.has_deadline = slot.has_deadline();
                follow_up.unpublished = Some((Arc::clone(&cached), slot));
                follow_up.is_stale = true;
                let weight = cached.weight().into();
                // The large futures of the cache are boxed: otherwise each write would allocate and copy their size, also a
                // write that replaces a slot in place.
                Box::pin(self.cache.insert(key.clone(), cached)).await;
                follow_up.is_stale = false;
                weight
            }
            CacheAction::Remove => {
                follow_up.is_stale = true;
                Box::pin(self.cache.invalidate(key)).await;
                self.indexes.order.remove(key);
                follow_up.is_stale = false;
                0
            }
        };
        (outcome, weight)
    }

    /// Computes the update. If the new slot has the same weight as the current slot, replaces the slot in place. If the
    /// update removes the slot, makes it vacant. Otherwise returns a cached slot that the caller must insert into the
    /// cache, and the new slot, which [`FollowUp`] makes visible afterwards. Inserts the new slot into the indexes,
    /// because a slot must be in the indexes before it is in the cache.
    ///
    /// The cache may evict `cached` at any moment. Then a new slot that has replaced `cached` in place is evicted, too.
    fn prepare<T>(
        &self,
        key: &Key,
        cached: Option<&CachedSlot>,
        update: impl FnOnce(Option<&Slot>, &Now<'_>) -> Update<T>,
    ) -> (T, CacheAction) {
        let mut current = cached.map(CachedSlot::write);
        let mut current = current.as_deref_mut();
        let Update { outcome, change } = update(current.as_deref().and_then(Option::as_ref), &self.services.now());
        let slot = match (change, &mut current) {
            (Change::Keep, _) | (Change::Remove, None) => return (outcome, CacheAction::None),
            (Change::Remove, Some(current)) => {
                if let Some(old) = current.take() {
                    self.indexes.remove_deadline(&old);
                    self.services.notify(key);
                }
                return (outcome, CacheAction::Remove);
            }
            (Change::Put(slot), _) => slot,
        };
        let weight = self.bounds.weigh(key, &slot);
        let previous = current.and_then(Option::as_mut);
        match (previous, cached) {
            (Some(previous), Some(cached)) if cached.weight() == weight => {
                let has_deadline = slot.has_deadline();
                self.indexes.remove_deadline(&std::mem::replace(previous, slot));
                self.indexes.insert_deadline(key, previous);
                self.services.notify(key);
                (outcome, CacheAction::Replaced { has_deadline })
            }
            (previous, _) => {
                if previous.is_none() {
                    self.indexes.order.insert(key.clone());
                }
                self.indexes.insert_deadline(key, &slot);
                let cached = Arc::new(CachedSlot::new(previous.cloned(), weight));
                (outcome, CacheAction::Insert { cached, slot })
            }
        }
    }

    /// Runs the maintenance that follows a write. If the future is dropped, later writes continue the maintenance.
    async fn maintain(&self, weight: u64) {
        let written = self.written_weight.fetch_add(weight, Ordering::Relaxed) + weight;
        if written > self.bounds.capacity / MAINTENANCE_DIVISOR {
            self.written_weight.store(0, Ordering::Relaxed);
            Box::pin(self.cache.run_pending_tasks()).await;
        }
        if self.indexes.has_stale() && Box::pin(self.check_stale(STALE_KEYS_PER_WRITE)).await {
            self.services.sweeper.wake();
        }
    }

    /// Checks up to `max` stale keys, and removes each key that is not in the cache from the ordered index. Returns
    /// true if stale keys remain.
    async fn check_stale(&self, max: usize) -> bool {
        for _ in 0..max {
            let Some(stale) = self.indexes.next_stale() else { return false };
            let _guard = self.key_locks.lock(&stale.key).await;
            let cached = if self.cache.contains_key(&stale.key) { self.cache.get(&stale.key).await } else { None };
            match cached {
                Some(cached) if !cached.is_vacant() => {}
                Some(_) => {
                    // The future of a removal was dropped before it removed the vacant slot.
                    self.cache.invalidate(&stale.key).await;
                    self.indexes.order.remove(&stale.key);
                }
                None => self.indexes.order.remove(&stale.key),
            }
            stale.finish();
        }
        self.indexes.has_stale()
    }
}

/// The action that an update still has to carry out in the cache.
enum CacheAction {
    /// No action: nothing changes.
    None,
    /// No action: the slot was already replaced in place.
    Replaced { has_deadline: bool },
    /// Insert the cached slot, which has the previous content, and then make the slot visible in it.
    Insert { cached: Arc<CachedSlot>, slot: Slot },
    /// Remove the vacant slot.
    Remove,
}

/// Queues a stale key, makes an inserted slot visible, and wakes the sweeper on drop. Therefore these steps also happen
/// if a caller drops the future of the write at an `.await`.
struct FollowUp<'a> {
    engine: &'a Bounded,
    key: &'a Key,
    /// A cached slot that was possibly inserted, and the slot that must become visible in it.
    unpublished: Option<(Arc<CachedSlot>, Slot)>,
    /// True if the new slot has a deadline.
    has_deadline: bool,
    /// True while the key is in the ordered index and possibly not in the cache.
    is_stale: bool,
}

impl Drop for FollowUp<'_> {
    fn drop(&mut self) {
        if self.is_stale {
            self.engine.indexes.push_stale(self.key.clone());
        }
        if let Some((cached, slot)) = self.unpublished.take() {
            let mut current = cached.write();
            let previous = current.replace(slot);
            self.engine.services.notify(self.key);
            drop(current);
            drop(previous);
        }
        if self.has_deadline {
            self.engine.services.sweeper.wake();
        }
    }
}
