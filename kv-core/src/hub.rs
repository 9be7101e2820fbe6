//! A publish-subscribe hub inside one process, with a bounded queue for each subscriber.
//!
//! An adapter owns one [`Hub`] of [`Changes`] for `watch` and one of [`Messages`] for `subscribe`. Notifying never
//! blocks: if the queue of a subscriber is full, its items are dropped and the subscriber receives a gap instead
//! (clause W-3).

use std::collections::{HashSet, VecDeque};
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use tokio::sync::Notify;
use tokio::task::coop::consume_budget;

use crate::key::{Key, KeyPrefix};
use crate::message::Message;
use crate::prefix_filter::PrefixFilter;
use crate::watch::GapReason;

/// The bounded queue of one subscriber.
pub trait Queue: Debug + Default + Send + 'static {
    /// The item type.
    type Item: Clone + Send;

    /// Returns the key that subscribed prefixes are compared with.
    fn key(item: &Self::Item) -> &Key;

    /// Appends an item. Returns false if the queue is full.
    fn push(&mut self, item: Self::Item) -> bool;

    /// Removes and returns the oldest item.
    fn pop(&mut self) -> Option<Self::Item>;
}

/// A queue of changed keys without duplicates. The watcher reads the current entry of each key that it receives.
#[derive(Debug, Default)]
pub struct Changes {
    order: VecDeque<Key>,
    queued: HashSet<Key>,
}

impl Changes {
    /// The maximum number of keys in the queue of one watcher. One more key causes a gap.
    pub const MAX_KEYS: usize = 4_096;
}

impl Queue for Changes {
    type Item = Key;

    fn key(item: &Key) -> &Key {
        item
    }

    fn push(&mut self, key: Key) -> bool {
        if self.queued.contains(&key) {
            return true;
        }
        if self.order.len() >= Self::MAX_KEYS {
            return false;
        }
        self.queued.insert(key.clone());
        self.order.push_back(key);
        true
    }

    fn pop(&mut self) -> Option<Key> {
        let key = self.order.pop_front()?;
        self.queued.remove(&key);
        Some(key)
    }
}

/// A queue of messages in the order in which they were published.
#[derive(Debug, Default)]
pub struct Messages {
    order: VecDeque<Message>,
    bytes: usize,
}

impl Messages {
    /// The maximum number of messages in the queue of one subscriber. One more message causes a gap.
    pub const MAX_MESSAGES: usize = 4_096;
    /// The maximum size of the payloads in the queue of one subscriber, in bytes. One more byte causes a gap.
    pub const MAX_BYTES: usize = 32 << 20;
}

impl Queue for Messages {
    type Item = Message;

    fn key(item: &Message) -> &Key {
        &item.channel
    }

    fn push(&mut self, message: Message) -> bool {
        let bytes = self.bytes + message.payload.len();
        if self.order.len() >= Self::MAX_MESSAGES || bytes > Self::MAX_BYTES {
            return false;
        }
        self.bytes = bytes;
        self.order.push_back(message);
        true
    }

    fn pop(&mut self) -> Option<Message> {
        let message = self.order.pop_front()?;
        self.bytes -= message.payload.len();
        Some(message)
    }
}

/// A hub that passes items to its subscribers. Clones share the same subscribers.
#[derive(Debug)]
pub struct Hub<Q: Queue> {
    shared: Arc<Shared<Q>>,
}

#[derive(Debug)]
struct Shared<Q: Queue> {
    subscribers: RwLock<Subscribers<Q>>,
    /// A filter over the subscribed prefixes, so that a notification without subscribers costs one atomic load.
    filter: PrefixFilter,
}

#[derive(Debug)]
struct Subscribers<Q: Queue> {
    list: Vec<Arc<Subscriber<Q>>>,
    closed: bool,
}

#[derive(Debug)]
struct Subscriber<Q: Queue> {
    prefix: KeyPrefix,
    state: Mutex<State<Q>>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct State<Q: Queue> {
    gap: Option<GapReason>,
    queue: Q,
    closed: bool,
}

impl<Q: Queue> Hub<Q> {
    /// Creates a hub without subscribers.
    pub fn new() -> Self {
        let subscribers = RwLock::new(Subscribers { list: Vec::new(), closed: false });
        Self { shared: Arc::new(Shared { subscribers, filter: PrefixFilter::default() }) }
    }

    /// True if there is a subscriber. A writer that calls this method under the lock of its write sees every subscriber
    /// that was added before the writer took that lock.
    pub fn has_subscribers(&self) -> bool {
        self.shared.filter.has_prefixes()
    }

    /// Queues the item for every subscriber whose prefix covers the item's key. Never blocks on a subscriber.
    pub fn notify(&self, item: &Q::Item) {
        if !self.shared.filter.may_cover(Q::key(item)) {
            return;
        }
        for subscriber in &self.read().list {
            if subscriber.prefix.covers(Q::key(item)) {
                subscriber.change(|state| {
                    if !state.queue.push(item.clone()) {
                        state.replace_by_gap(GapReason::Lagged);
                    }
                });
            }
        }
    }

    /// Empties the queue of every subscriber, and reports a gap to every subscriber.
    pub fn gap(&self, reason: GapReason) {
        for subscriber in &self.read().list {
            subscriber.change(|state| state.replace_by_gap(reason));
        }
    }

    /// Subscribes to the keys under a prefix. Items that are notified after this call arrive in the inbox.
    pub fn subscribe(&self, prefix: KeyPrefix) -> Inbox<Q> {
        let mut subscribers = self.shared.subscribers.write().unwrap_or_else(PoisonError::into_inner);
        let state = State { gap: None, queue: Q::default(), closed: subscribers.closed };
        let subscriber = Arc::new(Subscriber { prefix, state: Mutex::new(state), wake: Notify::new() });
        subscribers.list.push(Arc::clone(&subscriber));
        self.shared.filter.set(subscribers.prefixes());
        Inbox { subscriber, shared: Arc::clone(&self.shared) }
    }

    /// Ends all subscriptions, including later ones. Each subscription ends after its queued items were received.
    pub fn close(&self) {
        let mut subscribers = self.shared.subscribers.write().unwrap_or_else(PoisonError::into_inner);
        subscribers.closed = true;
        for subscriber in &subscribers.list {
            subscriber.change(|state| state.closed = true);
        }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Subscribers<Q>> {
        self.shared.subscribers.read().unwrap_or_else(PoisonError::into_inner)
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

impl<Q: Queue> Subscribers<Q> {
    fn prefixes(&self) -> impl Iterator<Item = &KeyPrefix> + Clone {
        self.list.iter().map(|subscriber| &subscriber.prefix)
    }
}

impl<Q: Queue> Subscriber<Q> {
    fn state(&self) -> MutexGuard<'_, State<Q>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State<Q>)) {
        change(&mut self.state());
        self.wake.notify_one();
    }
}

impl<Q: Queue> State<Q> {
    fn replace_by_gap(&mut self, reason: GapReason) {
        self.gap = Some(reason);
        self.queue = Q::default();
    }
}

/// An item or a gap, as returned by [`Inbox::next`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery<T> {
    /// An item.
    Item(T),
    /// Items may have been lost before this point. No later item is lost without another gap.
    Gap(GapReason),
}

/// The receiving end of a subscription. The subscription ends when this end is dropped.
#[derive(Debug)]
pub struct Inbox<Q: Queue> {
    subscriber: Arc<Subscriber<Q>>,
    shared: Arc<Shared<Q>>,
}

impl<Q: Queue> Inbox<Q> {
    /// Waits for the next delivery. Returns `None` when the hub is closed and the queue is empty. A delivery costs one
    /// unit of tokio's cooperative budget.
    ///
    /// # Cancel safety
    /// A dropped future removes nothing from the queue.
    pub async fn next(&mut self) -> Option<Delivery<Q::Item>> {
        // Without this charge a stream that always has an item would block the other tasks of its thread.
        consume_budget().await;
        loop {
            {
                let mut state = self.subscriber.state();
                if let Some(reason) = state.gap.take() {
                    return Some(Delivery::Gap(reason));
                }
                if let Some(item) = state.queue.pop() {
                    return Some(Delivery::Item(item));
                }
                if state.closed {
                    return None;
                }
            }
            self.subscriber.wake.notified().await;
        }
    }
}

impl<Q: Queue> Drop for Inbox<Q> {
    fn drop(&mut self) {
        let mut subscribers = self.shared.subscribers.write().unwrap_or_else(PoisonError::into_inner);
        subscribers.list.retain(|subscriber| !Arc::ptr_eq(subscriber, &self.subscriber));
        self.shared.filter.set(subscribers.prefixes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
