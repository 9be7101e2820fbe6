//! The subscribers of a hub by the place of their target.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::filter::Kind;
use super::hash::hash;
use super::inbox::Mailbox;
use super::queue::Queue;
use super::sink;
use crate::change_sink::ChangeSink;
use crate::key::Key;
use crate::moment::Moment;
use crate::watch::{GapReason, WatchTarget};

/// A subscriber: its target, and its queue or sink.
#[derive(Debug)]
pub(super) struct Subscriber<Q: Queue> {
    target: WatchTarget,
    receiver: Receiver<Q>,
    /// The position in the list of its place. Only a holder of the lock of the place reads or changes it.
    position: AtomicUsize,
}

/// The receiver of a subscriber's items.
#[derive(Debug)]
enum Receiver<Q: Queue> {
    Mailbox(Mailbox<Q>),
    Sink(Arc<dyn ChangeSink>),
}

impl<Q: Queue> Subscriber<Q> {
    /// Creates a subscriber with a queue.
    pub(super) fn queued(target: WatchTarget) -> Self {
        Self { target, receiver: Receiver::Mailbox(Mailbox::default()), position: AtomicUsize::new(0) }
    }

    /// Creates a subscriber that passes each key to a sink.
    pub(super) fn direct(target: WatchTarget, sink: Arc<dyn ChangeSink>) -> Self {
        Self { target, receiver: Receiver::Sink(sink), position: AtomicUsize::new(0) }
    }

    /// Returns the queue; `None` for a sink.
    pub(super) fn mailbox(&self) -> Option<&Mailbox<Q>> {
        match &self.receiver {
            Receiver::Mailbox(mailbox) => Some(mailbox),
            Receiver::Sink(_) => None,
        }
    }

    pub(super) fn suspend(&self, reason: GapReason) {
        match &self.receiver {
            Receiver::Mailbox(mailbox) => mailbox.suspend(reason),
            Receiver::Sink(sink) => sink::call(&**sink, |sink| sink.lost(reason)),
        }
    }

    pub(super) fn gap(&self, reason: GapReason) {
        match &self.receiver {
            Receiver::Mailbox(mailbox) => mailbox.gap(reason),
            Receiver::Sink(sink) => sink::call(&**sink, |sink| sink.lost(reason)),
        }
    }

    pub(super) fn close(&self) {
        match &self.receiver {
            Receiver::Mailbox(mailbox) => mailbox.close(),
            Receiver::Sink(sink) => sink::call(&**sink, |sink| sink.lost(GapReason::Closed)),
        }
    }

    /// Calls [`ChangeSink::current`] of a sink.
    pub(super) fn current(&self, as_of: Moment) {
        if let Receiver::Sink(sink) = &self.receiver {
            sink::call(&**sink, |sink| sink.current(as_of));
        }
    }

    fn push(&self, item: &Q::Item) {
        match &self.receiver {
            Receiver::Mailbox(mailbox) => mailbox.push(item),
            Receiver::Sink(sink) => sink::call(&**sink, |sink| sink.changed(Q::key(item))),
        }
    }

    /// Returns the kind and the canonical text of the place; `None` for the target that covers every key.
    pub(super) fn place(&self) -> Option<(Kind, Key)> {
        match &self.target {
            WatchTarget::Key(key) => Some((Kind::Key, key.clone())),
            WatchTarget::Prefix(prefix) => prefix.to_key().map(|key| (Kind::Prefix, key)),
        }
    }
}

/// The number of shards, which is a power of two. A registration locks one shard, so that it rarely delays a writer.
const SHARDS: usize = 16;

/// The subscribers by place. The hash of a place's text determines its shard.
#[derive(Debug)]
pub(super) struct Places<Q: Queue> {
    /// The subscribers to every key.
    root: RwLock<Members<Q>>,
    shards: [RwLock<Shard<Q>>; SHARDS],
}

#[derive(Debug)]
struct Shard<Q: Queue> {
    keys: HashMap<Key, Members<Q>>,
    prefixes: HashMap<Key, Members<Q>>,
}

/// The subscribers of one place, in no order.
#[derive(Debug)]
struct Members<Q: Queue>(Vec<Arc<Subscriber<Q>>>);

impl<Q: Queue> Places<Q> {
    pub(super) fn new() -> Self {
        let shard = |_| RwLock::new(Shard { keys: HashMap::new(), prefixes: HashMap::new() });
        Self { root: RwLock::default(), shards: std::array::from_fn(shard) }
    }

    /// Adds a subscriber. Returns true if its place had no subscriber.
    pub(super) fn add(&self, subscriber: &Arc<Subscriber<Q>>) -> bool {
        match subscriber.place() {
            None => write(&self.root).add(subscriber),
            Some((kind, key)) => {
                write(self.shard(hash(key.as_str().as_bytes()))).map(kind).entry(key).or_default().add(subscriber)
            }
        }
    }

    /// Removes a subscriber. Returns true if its place has no subscriber any more.
    pub(super) fn remove(&self, subscriber: &Subscriber<Q>) -> bool {
        let Some((kind, key)) = subscriber.place() else { return write(&self.root).remove(subscriber) };
        let mut shard = write(self.shard(hash(key.as_str().as_bytes())));
        let map = shard.map(kind);
        let is_empty = map.get_mut(&key).is_some_and(|members| members.remove(subscriber));
        if is_empty {
            map.remove(&key);
            if map.len() < map.capacity() / 8 {
                map.shrink_to(map.len() * 2);
            }
        }
        is_empty
    }

    /// Passes an item to the subscribers to every key.
    pub(super) fn notify_root(&self, item: &Q::Item) {
        read(&self.root).0.iter().for_each(|subscriber| subscriber.push(item));
    }

    /// Passes an item to the subscribers of the places with this text, which covers the item's key. Returns true if
    /// there is one.
    pub(super) fn notify(&self, text: &str, hash: u64, item: &Q::Item) -> bool {
        let shard = read(self.shard(hash));
        let members = |map: &HashMap<Key, Members<Q>>, mut is_covered: bool| {
            for subscriber in map.get(text).into_iter().flat_map(|members| &members.0) {
                // A prefix may exclude its own key.
                if subscriber.target.covers(Q::key(item)) {
                    subscriber.push(item);
                    is_covered = true;
                }
            }
            is_covered
        };
        let is_own = text.len() == Q::key(item).as_str().len();
        members(&shard.prefixes, is_own && members(&shard.keys, false))
    }

    /// Calls `each` with every subscriber.
    pub(super) fn for_each(&self, mut each: impl FnMut(&Subscriber<Q>)) {
        read(&self.root).0.iter().for_each(|subscriber| each(subscriber));
        for shard in &self.shards {
            let shard = read(shard);
            let members = shard.keys.values().chain(shard.prefixes.values());
            members.flat_map(|members| &members.0).for_each(|subscriber| each(subscriber));
        }
    }

    /// Calls `each` with the hash of every place, except the place that covers every key.
    pub(super) fn for_each_hash(&self, each: &mut dyn FnMut(u64)) {
        for shard in &self.shards {
            let shard = read(shard);
            shard.keys.keys().chain(shard.prefixes.keys()).for_each(|key| each(hash(key.as_str().as_bytes())));
        }
    }

    #[expect(clippy::indexing_slicing, reason = "the remainder is below the number of shards")]
    fn shard(&self, hash: u64) -> &RwLock<Shard<Q>> {
        // The filter uses other bits.
        &self.shards[(hash >> 32) as usize % SHARDS]
    }
}

impl<Q: Queue> Shard<Q> {
    fn map(&mut self, kind: Kind) -> &mut HashMap<Key, Members<Q>> {
        match kind {
            Kind::Key => &mut self.keys,
            Kind::Prefix => &mut self.prefixes,
        }
    }
}

impl<Q: Queue> Members<Q> {
    /// Adds a subscriber. Returns true if there was none.
    fn add(&mut self, subscriber: &Arc<Subscriber<Q>>) -> bool {
        subscriber.position.store(self.0.len(), Ordering::Relaxed);
        self.0.push(Arc::clone(subscriber));
        self.0.len() == 1
    }

    /// Removes a subscriber. Returns true if there is none any more.
    fn remove(&mut self, subscriber: &Subscriber<Q>) -> bool {
        let position = subscriber.position.load(Ordering::Relaxed);
        if self.0.get(position).is_some_and(|member| std::ptr::eq(Arc::as_ptr(member), subscriber)) {
            self.0.swap_remove(position);
            if let Some(moved) = self.0.get(position) {
                moved.position.store(position, Ordering::Relaxed);
            }
        }
        self.0.is_empty()
    }
}

impl<Q: Queue> Default for Members<Q> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
