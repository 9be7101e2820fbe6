//! A simulated connection between a handle and its store that can be cut.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{Stream, StreamExt, stream};
use kv_core::{
    Bytes, ChangeSink, CommitOutcome, DeleteOptions, DeleteOutcome, Entry, Error, GapReason, IncrementOptions, Key,
    KeyPrefix, KvStore, ListPage, ListQuery, MessageEvent, MessageStream, NewExpiry, Registration, Result, SetOptions,
    SetOutcome, StoreInfo, Transaction, Version, WatchEvent, WatchQuery, WatchStream, WatchTarget, delegate_store,
};
use tokio::sync::watch;

use super::heartbeats::HeartbeatSink;

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

    pub(crate) fn is_cut(&self) -> bool {
        !self.switches().is_multiple_of(2)
    }

    /// The number of cuts and heals.
    pub(crate) fn switches(&self) -> u64 {
        *self.switches.borrow()
    }
}

/// A store at the other end of a link. While the link is cut, writes cycle through three results: Unavailable and not
/// applied, Indeterminate and applied, Indeterminate and not applied.
#[derive(Debug)]
pub(crate) struct Remote<S> {
    inner: S,
    link: Link,
    info: StoreInfo,
}

impl<S: KvStore> Remote<S> {
    /// A store whose sinks are called over the link if `bound` is given, and in this process otherwise.
    pub(crate) fn new(inner: S, link: Link, bound: Option<Duration>) -> Self {
        let mut info = inner.info().clone();
        info.watch_loss_bound = bound.unwrap_or(info.watch_loss_bound);
        Self { inner, link, info }
    }

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

    /// Returns the events of the stream, with `suspended` when the link is cut and `gap` when it is healed.
    fn with_gaps<T: Clone + Send + 'static>(
        &self,
        suspended: T,
        gap: T,
        events: Pin<Box<dyn Stream<Item = Result<T>> + Send>>,
    ) -> Pin<Box<dyn Stream<Item = Result<T>> + Send>> {
        let switches = self.link.switches.subscribe();
        let seen = *switches.borrow();
        let gaps = stream::unfold((switches, seen), move |(mut switches, seen)| {
            let (suspended, gap) = (suspended.clone(), gap.clone());
            async move {
                let now = *switches.wait_for(|switches| *switches > seen).await.ok()?;
                // A link that was cut and healed several times since has one gap.
                if now.is_multiple_of(2) {
                    Some((Ok(gap), (switches, now)))
                } else {
                    Some((Ok(suspended), (switches, now)))
                }
            }
        });
        // `select` runs until both streams end, and `gaps` does not end. So this channel ends the returned stream when
        // `events` ends.
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let events = events.chain(stream::once(async move { drop(end) }).filter_map(|()| async { None }));
        let over = async { drop(ended.await) };
        // A gap comes before every event that is sent after it.
        let ordered = stream::select_with_strategy(gaps, events, |(): &mut ()| stream::PollNext::Left);
        Box::pin(ordered.take_until(Box::pin(over)))
    }
}

#[async_trait]
impl<S: KvStore> KvStore for Remote<S> {
    delegate_store!(self.inner, except
        info get get_with set delete contains get_many set_many delete_many list clear touch increment commit watch
        watch_into publish subscribe ping);

    fn info(&self) -> &StoreInfo {
        &self.info
    }

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
        let suspended = WatchEvent::Suspended { reason: GapReason::Disconnected };
        let gap = WatchEvent::Gap { reason: GapReason::Reconnected };
        Ok(self.with_gaps(suspended, gap, self.inner.watch(query).await?))
    }

    async fn watch_into(&self, target: &WatchTarget, sink: Arc<dyn ChangeSink>) -> Result<Registration> {
        let bound = self.info.watch_loss_bound;
        if bound.is_zero() {
            return self.inner.watch_into(target, sink).await;
        }
        self.check_link()?;
        let sink = Arc::new(HeartbeatSink::new(sink, self.link.clone()));
        let registration = self.inner.watch_into(target, Arc::clone(&sink) as Arc<dyn ChangeSink>).await?;
        Ok(Registration::new((registration, sink.run(bound))))
    }

    async fn publish(&self, channel: &Key, message: Bytes) -> Result<()> {
        self.write(self.inner.publish(channel, message), |()| None).await
    }

    async fn subscribe(&self, channels: &KeyPrefix) -> Result<MessageStream> {
        self.check_link()?;
        let suspended = MessageEvent::Suspended { reason: GapReason::Disconnected };
        let gap = MessageEvent::Gap { reason: GapReason::Reconnected };
        Ok(self.with_gaps(suspended, gap, self.inner.subscribe(channels).await?))
    }

    async fn ping(&self) -> Result<()> {
        self.check_link()?;
        self.inner.ping().await
    }
}
