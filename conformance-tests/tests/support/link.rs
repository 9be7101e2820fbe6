//! A simulated connection between a handle and its store that can be cut.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use futures_util::{Stream, StreamExt, stream};
use kv_core::{
    Bytes, CommitOutcome, DeleteOptions, DeleteOutcome, Entry, Error, GapReason, IncrementOptions, Key, KeyPrefix,
    KvStore, ListPage, ListQuery, MessageEvent, MessageStream, NewExpiry, Result, SetOptions, SetOutcome, Transaction,
    Version, WatchEvent, WatchQuery, WatchStream, delegate_store,
};
use tokio::sync::watch;

/// A simulated connection. Calls pass unless the connection is cut.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    /// The number of cuts and heals. It is odd while the link is cut.
    switches: Arc<watch::Sender<u64>>,
    cut_writes: Arc<AtomicUsize>,
}

impl Link {
    pub(crate) fn new() -> Self {
        Self { switches: Arc::new(watch::Sender::new(0)), cut_writes: Arc::default() }
    }

    pub(crate) fn cut(&self) {
        self.switch(false);
    }

    pub(crate) fn heal(&self) {
        self.switch(true);
    }

    fn switch(&self, was_cut: bool) {
        self.switches.send_if_modified(|switches| {
            let changes = switches.is_multiple_of(2) != was_cut;
            *switches += u64::from(changes);
            changes
        });
    }

    fn is_cut(&self) -> bool {
        !self.switches.borrow().is_multiple_of(2)
    }
}

/// A store at the other end of a link. While the link is cut, writes cycle through three results: Unavailable and not
/// applied, Indeterminate and applied, Indeterminate and not applied.
#[derive(Debug)]
pub(crate) struct Remote<S> {
    pub(crate) inner: S,
    pub(crate) link: Link,
}

impl<S: KvStore> Remote<S> {
    fn check_link(&self) -> Result<()> {
        if self.link.is_cut() { Err(Error::unavailable("the backend is unreachable")) } else { Ok(()) }
    }

    async fn write<T>(
        &self,
        write: impl Future<Output = Result<T>> + Send,
        version: impl Fn(&T) -> Option<Version> + Send,
    ) -> Result<T> {
        if !self.link.is_cut() {
            return write.await;
        }
        let version = match self.link.cut_writes.fetch_add(1, Ordering::Relaxed) % 3 {
            0 => return Err(Error::unavailable("the backend is unreachable")),
            1 => write.await.ok().and_then(|outcome| version(&outcome)),
            _ => None,
        };
        Err(Error::indeterminate(version.or_else(|| Some(Version::random())), "the backend became unreachable"))
    }

    /// Returns the events of the stream, and a gap each time the link is healed.
    fn with_gaps<T: Clone + Send + 'static>(
        &self,
        gap: T,
        events: Pin<Box<dyn Stream<Item = Result<T>> + Send>>,
    ) -> Pin<Box<dyn Stream<Item = Result<T>> + Send>> {
        let switches = self.link.switches.subscribe();
        let seen = *switches.borrow();
        let gaps = stream::unfold((switches, seen), move |(mut switches, seen)| {
            let gap = gap.clone();
            async move {
                let now = *switches.wait_for(|switches| *switches > seen && switches.is_multiple_of(2)).await.ok()?;
                Some((Ok(gap), (switches, now)))
            }
        });
        // `select` runs until both streams end, and `gaps` does not end. So this channel ends the returned stream when
        // `events` ends.
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let events = events.chain(stream::once(async move { drop(end) }).filter_map(|()| async { None }));
        let over = async { drop(ended.await) };
        Box::pin(stream::select(events, gaps).take_until(Box::pin(over)))
    }
}

#[async_trait]
impl<S: KvStore> KvStore for Remote<S> {
    delegate_store!(self.inner, except
        get get_with set delete contains get_many set_many delete_many list clear touch increment commit watch publish
        subscribe ping);

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        self.check_link()?;
        self.inner.get(key).await
    }

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        self.write(self.inner.set(key, value, options), SetOutcome::version).await
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
        self.write(self.inner.delete(key, options), |_| None).await
    }

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        self.check_link()?;
        self.inner.list(query).await
    }

    async fn clear(&self, prefix: &KeyPrefix) -> Result<u64> {
        self.write(self.inner.clear(prefix), |_| None).await
    }

    async fn touch(&self, key: &Key, expiry: NewExpiry) -> Result<bool> {
        self.write(self.inner.touch(key, expiry), |_| None).await
    }

    async fn increment(&self, key: &Key, by: i64, options: &IncrementOptions) -> Result<i64> {
        self.write(self.inner.increment(key, by, options), |_| None).await
    }

    async fn commit(&self, transaction: &Transaction) -> Result<CommitOutcome> {
        self.write(self.inner.commit(transaction), |_| None).await
    }

    async fn watch(&self, query: &WatchQuery) -> Result<WatchStream> {
        self.check_link()?;
        Ok(self.with_gaps(WatchEvent::Gap { reason: GapReason::Reconnected }, self.inner.watch(query).await?))
    }

    async fn publish(&self, channel: &Key, message: Bytes) -> Result<()> {
        self.write(self.inner.publish(channel, message), |()| None).await
    }

    async fn subscribe(&self, channels: &KeyPrefix) -> Result<MessageStream> {
        self.check_link()?;
        Ok(self.with_gaps(MessageEvent::Gap { reason: GapReason::Reconnected }, self.inner.subscribe(channels).await?))
    }

    async fn ping(&self) -> Result<()> {
        self.check_link()?;
        self.inner.ping().await
    }
}
