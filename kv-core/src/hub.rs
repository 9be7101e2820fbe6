//! A bounded hub inside one process: what an adapter tells, every subscriber gets, or is told that it missed something.
//!
//! Adapters own one [`Hub`] of [`Changes`] for `watch` and one of [`Messages`] for `subscribe`. Telling never waits: a
//! subscriber that does not keep up loses its queue and gets a gap in its place (clause W-3).

use std::collections::{HashSet, VecDeque};
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use tokio::sync::Notify;

use crate::key::{Key, KeyPrefix};
use crate::message::Message;
use crate::prefix_filter::PrefixFilter;
use crate::watch::GapReason;

/// What waits for one subscriber, bounded.
pub trait Queue: Debug + Default + Send + 'static {
    /// What is told.
    type Item: Clone + Send;

    /// The key by which subscribers choose.
    fn key(item: &Self::Item) -> &Key;

    /// Takes one more, or says by `false` that there is no room.
    fn push(&mut self, item: Self::Item) -> bool;

    /// Gives the oldest.
    fn pop(&mut self) -> Option<Self::Item>;
}

/// The keys that changed, each once: who hears of a key reads what is there now.
#[derive(Debug, Default)]
pub struct Changes {
    order: VecDeque<Key>,
    waiting: HashSet<Key>,
}

impl Changes {
    /// How many keys wait for one watcher before it has a gap.
    pub const MAX_KEYS: usize = 4_096;
}

impl Queue for Changes {
    type Item = Key;

    fn key(item: &Key) -> &Key {
        item
    }

    fn push(&mut self, key: Key) -> bool {
        if self.waiting.contains(&key) {
            return true;
        }
        if self.order.len() >= Self::MAX_KEYS {
            return false;
        }
        self.waiting.insert(key.clone());
        self.order.push_back(key);
        true
    }

    fn pop(&mut self) -> Option<Key> {
        let key = self.order.pop_front()?;
        self.waiting.remove(&key);
        Some(key)
    }
}

/// Messages in the order in which they were published.
#[derive(Debug, Default)]
pub struct Messages {
    order: VecDeque<Message>,
    bytes: usize,
}

impl Messages {
    /// How many messages wait for one subscriber before it has a gap.
    pub const MAX_MESSAGES: usize = 4_096;
    /// How many bytes of messages wait for one subscriber before it has a gap.
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

/// Tells every subscriber; clones are one hub.
#[derive(Debug)]
pub struct Hub<Q: Queue> {
    shared: Arc<Shared<Q>>,
}

#[derive(Debug)]
struct Shared<Q: Queue> {
    subscribers: RwLock<Subscribers<Q>>,
    /// What they ask for, so that telling nobody costs one load.
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
    /// A hub without subscribers.
    pub fn new() -> Self {
        let subscribers = RwLock::new(Subscribers { list: Vec::new(), closed: false });
        Self { shared: Arc::new(Shared { subscribers, filter: PrefixFilter::default() }) }
    }

    /// Whether anybody would hear. A subscriber that came before the caller took the lock that its write holds is seen.
    pub fn has_subscribers(&self) -> bool {
        self.shared.filter.is_any()
    }

    /// Tells every subscriber whose prefix covers the item's key. Never waits for one.
    pub fn notify(&self, item: &Q::Item) {
        if !self.shared.filter.may_be_for(Q::key(item)) {
            return;
        }
        for subscriber in &self.read().list {
            if subscriber.prefix.covers(Q::key(item)) {
                subscriber.change(|state| {
                    if !state.queue.push(item.clone()) {
                        state.miss(GapReason::Lagged);
                    }
                });
            }
        }
    }

    /// Tells every subscriber that it may have missed something; what waits for it is dropped.
    pub fn gap(&self, reason: GapReason) {
        for subscriber in &self.read().list {
            subscriber.change(|state| state.miss(reason));
        }
    }

    /// Subscribes to the keys of a prefix, from now on.
    pub fn subscribe(&self, prefix: KeyPrefix) -> Inbox<Q> {
        let mut subscribers = self.shared.subscribers.write().unwrap_or_else(PoisonError::into_inner);
        let state = State { gap: None, queue: Q::default(), closed: subscribers.closed };
        let subscriber = Arc::new(Subscriber { prefix, state: Mutex::new(state), wake: Notify::new() });
        subscribers.list.push(Arc::clone(&subscriber));
        self.shared.filter.set(subscribers.prefixes());
        Inbox { subscriber, shared: Arc::clone(&self.shared) }
    }

    /// Ends every subscription, also those to come, behind what waits for it.
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
    fn miss(&mut self, reason: GapReason) {
        self.gap = Some(reason);
        self.queue = Q::default();
    }
}

/// What an [`Inbox`] gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery<T> {
    /// Something was told.
    Item(T),
    /// Something may have been missed; what follows is whole again.
    Gap(GapReason),
}

/// The receiving end of a subscription; dropping it ends the subscription.
#[derive(Debug)]
pub struct Inbox<Q: Queue> {
    subscriber: Arc<Subscriber<Q>>,
    shared: Arc<Shared<Q>>,
}

impl<Q: Queue> Inbox<Q> {
    /// Waits for the next delivery; `None` when the hub was closed and nothing is left.
    ///
    /// # Cancel safety
    /// A dropped future has taken nothing.
    pub async fn next(&mut self) -> Option<Delivery<Q::Item>> {
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
    async fn a_key_that_changes_again_before_it_was_heard_is_told_once() {
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
    async fn who_does_not_keep_up_has_a_gap_and_then_goes_on() {
        let hub = Hub::<Changes>::new();
        let mut inbox = hub.subscribe(KeyPrefix::ALL);
        (0..=Changes::MAX_KEYS).for_each(|number| hub.notify(&key(number)));
        hub.notify(&key(7));
        assert_eq!(inbox.next().await, Some(Delivery::Gap(GapReason::Lagged)));
        assert_eq!(inbox.next().await, Some(Delivery::Item(key(7))));
    }

    #[tokio::test]
    async fn a_dropped_inbox_is_forgotten() {
        let hub = Hub::<Changes>::new();
        let inbox = hub.subscribe(KeyPrefix::ALL);
        assert!(hub.has_subscribers());
        drop(inbox);
        assert!(!hub.has_subscribers());
    }
}
