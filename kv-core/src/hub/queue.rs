//! The bounded queues of subscribers.

use std::collections::{HashSet, VecDeque};
use std::fmt::Debug;

use crate::key::Key;
use crate::message::Message;

/// The bounded queue of one subscriber.
pub trait Queue: Debug + Default + Send + 'static {
    /// The item type.
    type Item: Clone + Send;

    /// Returns the key that subscribed targets are compared with.
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
