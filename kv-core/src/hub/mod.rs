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

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::filter::{Counts, PlaceFilter};
pub use self::inbox::{Delivery, Inbox};
use self::places::{Places, Subscriber};
pub use self::queue::{Changes, Messages, Queue};
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

    /// Queues the item for every subscriber whose target covers the item's key. Never blocks on a subscriber.
    #[inline]
    pub fn notify(&self, item: &Q::Item) {
        if self.has_subscribers() {
            self.shared.notify(item);
        }
    }

    /// Empties the queue of every subscriber, and reports a gap to every subscriber.
    pub fn gap(&self, reason: GapReason) {
        self.shared.places.for_each(|subscriber| subscriber.mailbox.gap(reason));
    }

    /// Subscribes to a key or to the keys under a prefix. Items that are notified after this call arrive in the inbox.
    pub fn subscribe(&self, target: impl Into<WatchTarget>) -> Inbox<Q> {
        let subscriber = Arc::new(Subscriber::new(target.into()));
        self.shared.add(&subscriber);
        Inbox { subscriber, shared: Arc::clone(&self.shared) }
    }

    /// Ends all subscriptions, including later ones. Each subscription ends after its queued items were received.
    pub fn close(&self) {
        let mut registry = self.shared.registry();
        registry.closed = true;
        self.shared.places.for_each(|subscriber| subscriber.mailbox.close());
    }
}

impl<Q: Queue> Shared<Q> {
    fn notify(&self, item: &Q::Item) {
        if self.filter.has_root() {
            self.places.notify_root(item);
        }
        self.filter.visit(Q::key(item).as_str(), |text, hash| self.places.notify(text, hash, item));
    }

    fn add(&self, subscriber: &Arc<Subscriber<Q>>) {
        let mut registry = self.registry();
        if registry.closed {
            subscriber.mailbox.close();
        }
        let is_first = self.places.add(subscriber);
        match subscriber.place() {
            None => registry.counts.add_root(&self.filter),
            Some((kind, key)) if is_first => {
                registry.counts.add(&self.filter, kind, key.as_str(), |each| self.places.for_each_hash(each));
            }
            Some(_) => {}
        }
        self.count.fetch_add(1, Ordering::Release);
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
mod tests {
    use super::*;
    use crate::key::{Key, KeyPrefix};

    fn key(number: usize) -> Key {
        Key::new(["k", &number.to_string()]).unwrap()
    }

    #[tokio::test]
    async fn a_queued_key_that_changes_again_is_delivered_once() {
        let hub = Hub::<Changes>::new();
        let mut inbox = hub.subscribe(KeyPrefix::ALL);
        for number in [1, 2, 1] {
            hub.notify(&key(number));
        }
        hub.close();
        assert_eq!(inbox.next().await, Some(Delivery::Item(key(1))));
        assert_eq!(inbox.next().await, Some(Delivery::Item(key(2))));
        assert_eq!(inbox.next().await, None);
    }

    #[tokio::test]
    async fn a_slow_subscriber_gets_a_gap_and_then_later_items() {
        let hub = Hub::<Changes>::new();
        let mut inbox = hub.subscribe(KeyPrefix::ALL);
        (0..=Changes::MAX_KEYS).for_each(|number| hub.notify(&key(number)));
        hub.notify(&key(7));
        assert_eq!(inbox.next().await, Some(Delivery::Gap(GapReason::Lagged)));
        assert_eq!(inbox.next().await, Some(Delivery::Item(key(7))));
    }

    #[tokio::test]
    async fn a_subscriber_with_a_full_queue_yields() {
        let hub = Hub::<Changes>::new();
        let mut inbox = hub.subscribe(KeyPrefix::ALL);
        (0..1_000).for_each(|number| hub.notify(&key(number)));
        let other = tokio::spawn(async {});
        for number in 0..1_000 {
            assert_eq!(inbox.next().await, Some(Delivery::Item(key(number))));
            if other.is_finished() {
                return;
            }
        }
        panic!("the subscriber never yields");
    }

    #[tokio::test]
    async fn a_dropped_inbox_unsubscribes() {
        let hub = Hub::<Changes>::new();
        let inbox = hub.subscribe(KeyPrefix::ALL);
        assert!(hub.has_subscribers());
        drop(inbox);
        assert!(!hub.has_subscribers());
    }
}
