//! A publish-subscribe hub inside one process, with a bounded queue for each subscriber.
//!
//! An adapter owns one [`Hub`] of [`Changes`] for `watch` and one of [`Messages`] for `subscribe`. Notifying never
//! blocks: if the queue of a subscriber is full, its items are dropped and the subscriber receives a gap instead
//! (clause W-3). The cost of a notification depends on the number of segments of its key and on the subscribers that
//! it reaches, and not on the number of other subscribers.

mod filter;
mod hash;
mod inbox;
mod places;
mod queue;
mod sink;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::filter::{Counts, PlaceFilter};
pub use self::inbox::{Delivery, Inbox};
use self::places::{Places, Subscriber};
pub use self::queue::{Changes, Messages, Queue};
use self::sink::Attached;
use crate::change_sink::{ChangeSink, Registration};
use crate::moment::Moment;
use crate::watch::{GapReason, WatchTarget};

/// A hub that passes items to its subscribers. Clones share the same subscribers.
#[derive(Debug)]
pub struct Hub<Q: Queue> {
    shared: Arc<Shared<Q>>,
}

#[derive(Debug)]
struct Shared<Q: Queue> {
    /// The number of subscribers, so that a notification without subscribers costs one atomic load.
    count: AtomicUsize,
    /// The number of subscribers that were ever added, plus one. It rises after a subscriber was added.
    generation: AtomicU64,
    filter: PlaceFilter,
    places: Places<Q>,
    /// Held by each change of the subscribers, so that `places` and `filter` change together.
    registry: Mutex<Registry>,
}

#[derive(Debug, Default)]
struct Registry {
    counts: Counts,
    closed: bool,
}

impl<Q: Queue> Hub<Q> {
    /// Creates a hub without subscribers.
    pub fn new() -> Self {
        let shared = Shared {
            count: AtomicUsize::new(0),
            generation: AtomicU64::new(1),
            filter: PlaceFilter::default(),
            places: Places::new(),
            registry: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// True if there is a subscriber. A writer that calls this method under the lock of its write sees every subscriber
    /// that was added before the writer took that lock.
    pub fn has_subscribers(&self) -> bool {
        self.shared.count.load(Ordering::Acquire) > 0
    }

    /// Passes the item to every subscriber whose target covers the item's key. Never blocks on a subscriber.
    ///
    /// A writer in this process must call this method for each key that it changes, inside the section that makes the
    /// change visible. Then a sink learns of the change before any read returns it, and no read that begins after the
    /// call returns the old entry.
    #[inline]
    pub fn notify(&self, item: &Q::Item) {
        if self.has_subscribers() {
            self.shared.notify(item);
        }
    }

    /// Works as [`Hub::notify`], and returns at once if the note says that no subscriber covers the item's key. The
    /// caller keeps one note with each key, and changes it only under the lock of the write.
    #[inline]
    pub fn notify_unless(&self, unwatched: &mut Unwatched, item: &Q::Item) {
        let generation = self.shared.generation.load(Ordering::Acquire);
        if unwatched.0 != generation {
            unwatched.0 = if self.has_subscribers() && self.shared.notify(item) { 0 } else { generation };
        }
    }

    /// Reports to every subscriber that items may be lost from now on. Call this method as soon as a loss is known, and
    /// [`Hub::gap`] when items arrive again. If an item arrives without a call of `gap`, the subscribers get a gap first.
    pub fn suspend(&self, reason: GapReason) {
        self.shared.places.for_each(|subscriber| subscriber.suspend(reason));
    }

    /// Empties the queue of every subscriber, and reports a gap to every subscriber.
    pub fn gap(&self, reason: GapReason) {
        self.shared.places.for_each(|subscriber| subscriber.gap(reason));
    }

    /// Subscribes to a key or to the keys under a prefix. Items that are notified after this call arrive in the inbox.
    pub fn subscribe(&self, target: impl Into<WatchTarget>) -> Inbox<Q> {
        let subscriber = Arc::new(Subscriber::queued(target.into()));
        self.shared.add(&subscriber, None);
        Inbox { subscriber, shared: Arc::clone(&self.shared) }
    }

    /// Ends all subscriptions, including later ones. Each subscription ends after its queued items were received.
    pub fn close(&self) {
        let mut registry = self.shared.registry();
        registry.closed = true;
        self.shared.places.for_each(Subscriber::close);
    }
}

/// A note beside a key that no subscriber covered the key. The note holds until the next subscriber is added to the
/// hub. The default note says nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unwatched(u64);

impl Hub<Changes> {
    /// Registers a sink for the changes of a target. The sink gets every change that is notified after this call.
    ///
    /// `as_of` is `Some` if the hub is notified of every change inside the section that makes the change visible. Then
    /// the sink is current from the call on. Otherwise the sink is current after the next call of [`Hub::current`].
    pub fn attach(&self, target: WatchTarget, sink: Arc<dyn ChangeSink>, as_of: Option<Moment>) -> Registration {
        let subscriber = Arc::new(Subscriber::direct(target, sink));
        self.shared.add(&subscriber, as_of);
        Registration::new(Attached { subscriber, shared: Arc::clone(&self.shared) })
    }

    /// Calls [`ChangeSink::current`] of every sink. Every change that was visible before `as_of` must have been passed
    /// to [`Hub::notify`].
    pub fn current(&self, as_of: Moment) {
        self.shared.places.for_each(|subscriber| subscriber.current(as_of));
    }
}

impl<Q: Queue> Shared<Q> {
    /// Passes the item on. Returns true if a subscriber covers its key.
    fn notify(&self, item: &Q::Item) -> bool {
        let mut is_watched = self.filter.has_root();
        if is_watched {
            self.places.notify_root(item);
        }
        self.filter.visit(Q::key(item).as_str(), |text, hash| is_watched |= self.places.notify(text, hash, item));
        is_watched
    }

    fn add(&self, subscriber: &Arc<Subscriber<Q>>, as_of: Option<Moment>) {
        let mut registry = self.registry();
        let is_first = self.places.add(subscriber);
        match subscriber.place() {
            None => registry.counts.add_root(&self.filter),
            Some((kind, key)) if is_first => {
                registry.counts.add(&self.filter, kind, key.as_str(), |each| self.places.for_each_hash(each));
            }
            Some(_) => {}
        }
        self.count.fetch_add(1, Ordering::Release);
        self.generation.fetch_add(1, Ordering::Release);
        match as_of {
            _ if registry.closed => subscriber.close(),
            Some(as_of) => subscriber.current(as_of),
            None => {}
        }
    }

    fn remove(&self, subscriber: &Subscriber<Q>) {
        let mut registry = self.registry();
        self.count.fetch_sub(1, Ordering::Release);
        let was_last = self.places.remove(subscriber);
        match subscriber.place() {
            None => registry.counts.remove_root(&self.filter),
            Some((kind, key)) if was_last => registry.counts.remove(&self.filter, kind, key.as_str()),
            Some(_) => {}
        }
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<Q: Queue> Default for Hub<Q> {
    fn default() -> Self {
        Self::new()
    }
}

impl<Q: Queue> Clone for Hub<Q> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

#[cfg(test)]
mod tests;
