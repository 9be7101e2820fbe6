//! The engine that evicts when it is full.

mod bounds;
mod cell;
mod shared;
mod turns;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use hashbrown::DefaultHashBuilder;
use kv_core::{Entry, Key, SetOptions, SetOutcome, Version};
use moka::future::Cache;
use moka::notification::RemovalCause;

pub(crate) use self::bounds::{Bounds, MIN_BYTES};
use self::cell::Cell;
use self::shared::Shared;
use self::turns::Turns;
use crate::config::EvictionPolicy;
use crate::context::Context;
use crate::decide::{self, Change, Decision};
use crate::order::Order;
use crate::slot::{Now, Slot};
use crate::sweep::{BATCH, yield_now};

/// A cache of slots, with indexes by key and by deadline beside it.
///
/// Every change takes its turn at the key first, and only then reads, decides and writes. The cache has such a turn of its
/// own in `and_compute_with`, which costs more than the write, and which plain inserts do not take: a compare-and-set by the
/// one beside a set by the other is not linearizable. Here all go by one, and there is no other.
///
/// Deadlines are the store's own, in the slots, and not the cache's `Expiry`: there is one time, that of the store's clock,
/// which a test can move, and one rounding for all stores.
#[derive(Debug)]
pub(crate) struct Bounded {
    pub(crate) context: Arc<Context>,
    cache: Cache<Key, Arc<Cell>, DefaultHashBuilder>,
    turns: Turns,
    shared: Arc<Shared>,
    bounds: Bounds,
    /// The weight of what was written since maintenance was last asked for.
    written: AtomicU64,
}

/// Maintenance is asked for when this part of the capacity was written since the last one. The cache itself does it every
/// 64 writes or so, which is too late where a few values fill it.
const SLACK: u64 = 8;

/// How many departed keys a write looks after. More than it sends away on average, so that they do not pile up.
const SETTLED_PER_WRITE: usize = 2;

impl Bounded {
    pub(crate) fn new(context: Arc<Context>, bounds: Bounds, policy: EvictionPolicy) -> Self {
        let shared = Arc::new(Shared::new());
        let (watched, indexed) = (Arc::clone(&context), Arc::clone(&shared));
        let cache = Cache::builder()
            .max_capacity(bounds.capacity)
            .weigher(|_, cell: &Arc<Cell>| cell.weight())
            .eviction_policy(match policy {
                EvictionPolicy::Lru => moka::policy::EvictionPolicy::lru(),
                EvictionPolicy::TinyLfu => moka::policy::EvictionPolicy::tiny_lfu(),
            })
            .eviction_listener(move |key: Arc<Key>, cell: Arc<Cell>, cause| {
                cell.read(|slot| indexed.leaves(slot));
                // Who removes a key, or all of them, takes it out of the order; who replaces it leaves it there.
                if cause == RemovalCause::Size {
                    // Not out of the order at once: the key may have come back already.
                    indexed.depart(Key::clone(&key));
                    watched.changes.notify(&key);
                }
            })
            .build_with_hasher(DefaultHashBuilder::default());
        Self { context, cache, turns: Turns::new(), shared, bounds, written: AtomicU64::new(0) }
    }

    pub(crate) async fn get(&self, key: &Key) -> Option<Entry> {
        let cell = self.cache.get(key).await?;
        cell.read(|slot| slot.is_live(&self.context.now()).then(|| slot.entry()))
    }

    pub(crate) async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> SetOutcome {
        self.mutate(key, |current, now| decide::set(current, value, Version::random(), options, now)).await
    }

    pub(crate) fn order(&self) -> &Order {
        &self.shared.order
    }

    /// Decides over the slot of a key and does it, as one atomic step.
    pub(crate) async fn mutate<T: Send>(
        &self,
        key: &Key,
        decide: impl FnOnce(Option<&Slot>, &Now<'_>) -> Decision<T> + Send,
    ) -> T {
        let (answer, weight) = self.apply(key, decide).await;
        self.keep_up(weight).await;
        answer
    }

    /// Removes what has expired and tells how much it was; brings the cache and its indexes up to date.
    pub(crate) async fn sweep(&self) -> u64 {
        self.cache.run_pending_tasks().await;
        let mut count = 0;
        for stripe in self.shared.stripes() {
            loop {
                let due = stripe.lock().due(&self.context.now(), BATCH);
                for due in &due {
                    let (was_there, _) = self.apply(&due.key, |current, _| decide::sweep(current, due)).await;
                    count += u64::from(was_there);
                    // It is gone with its slot, unless it was left behind by a dropped write.
                    stripe.lock().remove_due(due);
                }
                if due.len() < BATCH {
                    break;
                }
                yield_now().await;
            }
        }
        self.cache.run_pending_tasks().await;
        while self.settle(BATCH).await {
            yield_now().await;
        }
        count
    }

    /// Whether no entry has a deadline and no key waits to be settled.
    pub(crate) fn is_swept(&self) -> bool {
        !self.shared.has_departed() && self.shared.deadlines() == 0
    }

    pub(crate) async fn clear(&self) {
        self.cache.invalidate_all();
        self.cache.run_pending_tasks().await;
        self.shared.clear();
    }

    /// How many entries there were at the last maintenance, swept or not, and how many deadlines there are.
    pub(crate) fn count(&self) -> (usize, usize) {
        (usize::try_from(self.cache.entry_count()).unwrap_or(usize::MAX), self.shared.deadlines())
    }

    /// Gives the answer and the weight of what was written.
    async fn apply<T: Send>(
        &self,
        key: &Key,
        decide: impl FnOnce(Option<&Slot>, &Now<'_>) -> Decision<T> + Send,
    ) -> (T, u64) {
        let _turn = self.turns.of(key).await;
        // A miss of `get` is bookkeeping for the cache, which costs more than looking first.
        let cell = if self.cache.contains_key(key) { self.cache.get(key).await } else { None };
        let mut aftermath = Aftermath { engine: self, key, has_changed: false, is_passing: false, is_unsettled: false };
        let (answer, step) = self.step(key, cell.as_deref(), decide);
        let weight = match step {
            Step::None => 0,
            Step::Replaced { is_passing } => {
                (aftermath.has_changed, aftermath.is_passing) = (true, is_passing);
                cell.map_or(0, |cell| cell.weight().into())
            }
            Step::Insert { cell, is_passing } => {
                (aftermath.has_changed, aftermath.is_passing) = (true, is_passing);
                aftermath.is_unsettled = true;
                let weight = cell.weight().into();
                self.cache.insert(key.clone(), cell).await;
                aftermath.is_unsettled = false;
                weight
            }
            Step::Remove => {
                aftermath.has_changed = true;
                aftermath.is_unsettled = true;
                self.cache.invalidate(key).await;
                self.shared.order.remove(key);
                aftermath.is_unsettled = false;
                0
            }
        };
        (answer, weight)
    }

    /// Decides over the slot in a cell and writes it there, where the new one counts as much. The indexes are told first
    /// of what is to come.
    ///
    /// The cell may be evicted at any moment. What is written to it then is evicted with it.
    fn step<T>(
        &self,
        key: &Key,
        cell: Option<&Cell>,
        decide: impl FnOnce(Option<&Slot>, &Now<'_>) -> Decision<T>,
    ) -> (T, Step) {
        let mut current = cell.map(Cell::write);
        let Decision { answer, change } = decide(current.as_deref(), &self.context.now());
        let slot = match change {
            Change::Keep => return (answer, Step::None),
            Change::Remove => return (answer, if cell.is_some() { Step::Remove } else { Step::None }),
            Change::Put(slot) => slot,
        };
        let (is_passing, weight) = (slot.has_deadline(), self.bounds.weigh(key, &slot));
        match (&mut current, cell) {
            (Some(current), Some(cell)) if cell.weight() == weight => {
                self.shared.leaves(&std::mem::replace(&mut *current, slot));
                self.shared.enters(key, current);
                return (answer, Step::Replaced { is_passing });
            }
            (Some(_), _) => {}
            (None, _) => self.shared.order.insert(key.clone()),
        }
        self.shared.enters(key, &slot);
        (answer, Step::Insert { cell: Arc::new(Cell::new(slot, weight)), is_passing })
    }

    /// Does its share of the upkeep after a write. Dropping it in between loses nothing.
    async fn keep_up(&self, weight: u64) {
        let written = self.written.fetch_add(weight, Ordering::Relaxed) + weight;
        if written > self.bounds.capacity / SLACK {
            self.written.store(0, Ordering::Relaxed);
            self.cache.run_pending_tasks().await;
        }
        if self.settle(SETTLED_PER_WRITE).await {
            self.context.sweeper.wake();
        }
    }

    /// Takes departed keys that are still absent out of the order, and tells whether some are left.
    async fn settle(&self, max: usize) -> bool {
        for _ in 0..max {
            let Some(departed) = self.shared.next_departed() else { return false };
            let _turn = self.turns.of(&departed.key).await;
            if !self.cache.contains_key(&departed.key) {
                self.shared.order.remove(&departed.key);
            }
            departed.finish();
        }
        self.shared.has_departed()
    }
}

/// What is left to do for a decision.
enum Step {
    None,
    /// It is done.
    Replaced {
        is_passing: bool,
    },
    Insert {
        cell: Arc<Cell>,
        is_passing: bool,
    },
    Remove,
}

/// What follows a change, also when its future is dropped half-way.
struct Aftermath<'a> {
    engine: &'a Bounded,
    key: &'a Key,
    has_changed: bool,
    is_passing: bool,
    /// Whether the key is in the order and may not be in the cache.
    is_unsettled: bool,
}

impl Drop for Aftermath<'_> {
    fn drop(&mut self) {
        if self.is_unsettled {
            self.engine.shared.depart(self.key.clone());
        }
        if self.has_changed {
            self.engine.context.changed(self.key, self.is_passing);
        }
    }
}
