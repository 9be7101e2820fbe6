//! A link between a handle and its store that can be cut.

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

/// Whether what is said gets through.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    /// How often it was cut or healed: odd while it is cut.
    turns: Arc<watch::Sender<u64>>,
    lost: Arc<AtomicUsize>,
}

impl Link {
    pub(crate) fn new() -> Self {
        Self { turns: Arc::new(watch::Sender::new(0)), lost: Arc::default() }
    }

    pub(crate) fn cut(&self) {
        self.turn(false);
    }

    pub(crate) fn heal(&self) {
        self.turn(true);
    }

    fn turn(&self, from_cut: bool) {
        self.turns.send_if_modified(|turns| {
            let turns_now = turns.is_multiple_of(2) != from_cut;
            *turns += u64::from(turns_now);
            turns_now
        });
    }

    fn is_cut(&self) -> bool {
        !self.turns.borrow().is_multiple_of(2)
    }
}

/// A store at the far end of a link. What is written while the link is cut does not arrive, arrives and the answer does not
/// come back, or is not even sent, in turn.
#[derive(Debug)]
pub(crate) struct Far<S> {
    pub(crate) inner: S,
    pub(crate) link: Link,
}

impl<S: KvStore> Far<S> {
    fn reads(&self) -> Result<()> {
        if self.link.is_cut() { Err(Error::unavailable("the backend is away")) } else { Ok(()) }
    }

    async fn writes<T>(
        &self,
        write: impl Future<Output = Result<T>> + Send,
        version: impl Fn(&T) -> Option<Version> + Send,
    ) -> Result<T> {
        if !self.link.is_cut() {
            return write.await;
        }
        let version = match self.link.lost.fetch_add(1, Ordering::Relaxed) % 3 {
            0 => return Err(Error::unavailable("the backend is away")),
            1 => write.await.ok().and_then(|outcome| version(&outcome)),
            _ => None,
        };
        Err(Error::indeterminate(version.or_else(|| Some(Version::random())), "the backend went away"))
    }

    /// What is heard, and a gap every time that the link is healed.
    fn with_gaps<T: Clone + Send + 'static>(
        &self,
        gap: T,
        heard: Pin<Box<dyn Stream<Item = Result<T>> + Send>>,
    ) -> Pin<Box<dyn Stream<Item = Result<T>> + Send>> {
        let turns = self.link.turns.subscribe();
        let seen = *turns.borrow();
        let gaps = stream::unfold((turns, seen), move |(mut turns, seen)| {
            let gap = gap.clone();
            async move {
                let now = *turns.wait_for(|turns| *turns > seen && turns.is_multiple_of(2)).await.ok()?;
                Some((Ok(gap), (turns, now)))
            }
        });
        // The store decides when the stream ends.
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let heard = heard.chain(stream::once(async move { drop(end) }).filter_map(|()| async { None }));
        let over = async { drop(ended.await) };
        Box::pin(stream::select(heard, gaps).take_until(Box::pin(over)))
    }
}

#[async_trait]
impl<S: KvStore> KvStore for Far<S> {
    delegate_store!(self.inner, except
        get set delete contains get_many set_many delete_many list clear touch increment commit watch publish subscribe ping);

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        self.reads()?;
        self.inner.get(key).await
    }

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        self.writes(self.inner.set(key, value, options), SetOutcome::version).await
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
        self.writes(self.inner.delete(key, options), |_| None).await
    }

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        self.reads()?;
        self.inner.list(query).await
    }

    async fn clear(&self, prefix: &KeyPrefix) -> Result<u64> {
        self.writes(self.inner.clear(prefix), |_| None).await
    }

    async fn touch(&self, key: &Key, expiry: NewExpiry) -> Result<bool> {
        self.writes(self.inner.touch(key, expiry), |_| None).await
    }

    async fn increment(&self, key: &Key, by: i64, options: &IncrementOptions) -> Result<i64> {
        self.writes(self.inner.increment(key, by, options), |_| None).await
    }

    async fn commit(&self, transaction: &Transaction) -> Result<CommitOutcome> {
        self.writes(self.inner.commit(transaction), |_| None).await
    }

    async fn watch(&self, query: &WatchQuery) -> Result<WatchStream> {
        self.reads()?;
        Ok(self.with_gaps(WatchEvent::Gap { reason: GapReason::Reconnected }, self.inner.watch(query).await?))
    }

    async fn publish(&self, channel: &Key, message: Bytes) -> Result<()> {
        self.writes(self.inner.publish(channel, message), |()| None).await
    }

    async fn subscribe(&self, channels: &KeyPrefix) -> Result<MessageStream> {
        self.reads()?;
        Ok(self.with_gaps(MessageEvent::Gap { reason: GapReason::Reconnected }, self.inner.subscribe(channels).await?))
    }

    async fn ping(&self) -> Result<()> {
        self.reads()?;
        self.inner.ping().await
    }
}
