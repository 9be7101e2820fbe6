//! The engine that evicts when it is full.

mod bounds;
mod shared;

use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::DefaultHashBuilder;
use kv_core::{Entry, Key};
use moka::future::Cache;
use moka::notification::RemovalCause;
use moka::ops::compute::Op;

pub(crate) use self::bounds::{Bounds, MIN_BYTES};
use self::shared::Shared;
use crate::config::EvictionPolicy;
use crate::context::Context;
use crate::decide::{self, Change, Decision};
use crate::order::Order;
use crate::slot::{Now, Slot};
use crate::sweep::{BATCH, yield_now};

/// A cache of slots, with indexes by key and by deadline beside it.
///
/// Every change goes by `and_compute_with`, which holds the cache's lock of the key; its plain insert and remove do not
/// take that lock, and a compare-and-set beside them is not linearizable.
///
/// Deadlines are the store's own, in the slots, and not the cache's `Expiry`: there is one time, that of the store's clock,
/// which a test can move, and one rounding for all stores.
#[derive(Debug)]
pub(crate) struct Bounded {
    pub(crate) context: Arc<Context>,
    cache: Cache<Key, Slot, DefaultHashBuilder>,
    shared: Arc<Shared>,
    bounds: Bounds,
    last_ticket: AtomicU64,
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
            .weigher(move |key, slot| bounds.weigh(key, slot))
            .eviction_policy(match policy {
                EvictionPolicy::Lru => moka::policy::EvictionPolicy::lru(),
                EvictionPolicy::TinyLfu => moka::policy::EvictionPolicy::tiny_lfu(),
            })
            .eviction_listener(move |key: Arc<Key>, slot: Slot, cause| {
                indexed.leaves(&slot);
                if cause != RemovalCause::Replaced {
                    // Not out of the order at once: the key may have come back already.
                    indexed.depart(Key::clone(&key));
                }
                if cause == RemovalCause::Size {
                    watched.changes.tell(&key);
                }
            })
            .build_with_hasher(DefaultHashBuilder::default());
        Self { context, cache, shared, bounds, last_ticket: AtomicU64::new(0), written: AtomicU64::new(0) }
    }

    pub(crate) async fn get(&self, key: &Key) -> Option<Entry> {
        let slot = self.cache.get(key).await?;
        slot.is_live(&self.context.now()).then(|| slot.entry())
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
        let mut answer = None;
        let mut weight = 0;
        let mut aftermath = Aftermath { engine: self, key, has_changed: false, is_passing: false, is_unsettled: false };
        let compute = self.cache.entry_by_ref(key).and_compute_with(|current| {
            let current = current.as_ref().map(moka::Entry::value);
            let Decision { answer: decided, change } = decide(current, &self.context.now());
            answer = Some(decided);
            ready(match (change, current) {
                (Change::Keep, _) | (Change::Remove, None) => Op::Nop,
                (Change::Remove, Some(_)) => {
                    aftermath.has_changed = true;
                    Op::Remove
                }
                (Change::Put(mut slot), current) => {
                    slot.ticket = self.last_ticket.fetch_add(1, Ordering::Relaxed);
                    weight = self.bounds.weigh(key, &slot).into();
                    aftermath.has_changed = true;
                    aftermath.is_passing = slot.has_deadline();
                    if current.is_none() {
                        aftermath.is_unsettled = true;
                        self.shared.order.insert(key.clone());
                    }
                    self.shared.enters(key, &slot);
                    Op::Put(slot)
                }
            })
        });
        compute.await;
        aftermath.is_unsettled = false;
        drop(aftermath);
        match answer {
            Some(answer) => (answer, weight),
            // The cache calls the closure once and awaits it, or never returns.
            None => unreachable!("a computation that did not run"),
        }
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
            let look = self.cache.entry_by_ref(&departed.key).and_compute_with(|current| {
                if current.is_none() {
                    self.shared.order.remove(&departed.key);
                }
                ready(Op::Nop)
            });
            look.await;
            departed.finish();
        }
        self.shared.has_departed()
    }
}

/// What follows a change, also when its future is dropped half-way.
struct Aftermath<'a> {
    engine: &'a Bounded,
    key: &'a Key,
    has_changed: bool,
    is_passing: bool,
    /// Whether the key is in the order and may never have come into the cache.
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
