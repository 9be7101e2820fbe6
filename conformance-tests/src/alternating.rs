//! A store that sends its calls alternately to two handles.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use kv_core::{
    ChangeSink, Key, KeyPrefix, KvStore, MessageStream, Reach, Registration, Result, StoreInfo, WatchTarget,
    delegate_store,
};

/// Sends calls alternately to two handles of one store, the second one in another process.
#[derive(Debug)]
pub(crate) struct Alternating {
    handles: [Arc<dyn KvStore>; 2],
    calls: AtomicUsize,
}

impl Alternating {
    pub(crate) fn new(this_process: Arc<dyn KvStore>, other_process: Arc<dyn KvStore>) -> Self {
        Self { handles: [this_process, other_process], calls: AtomicUsize::new(0) }
    }

    /// The handle for messages. If messages do not leave a process, this is always the first handle, because publisher
    /// and subscriber must be in the same process.
    fn for_messages(&self) -> &dyn KvStore {
        let [this_process, _] = &self.handles;
        if this_process.info().capabilities.messages == Reach::Process { this_process } else { self.next() }
    }

    fn next(&self) -> &dyn KvStore {
        let [this_process, other_process] = &self.handles;
        if self.calls.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) { this_process } else { other_process }
    }
}

#[async_trait]
impl KvStore for Alternating {
    delegate_store!(self.next(), except info watch_into publish subscribe close);

    fn info(&self) -> &StoreInfo {
        let [this_process, _] = &self.handles;
        this_process.info()
    }

    /// Registers a sink with the handle of this process, because a sink cannot be called in another process.
    async fn watch_into(&self, target: &WatchTarget, sink: Arc<dyn ChangeSink>) -> Result<Registration> {
        let [this_process, _] = &self.handles;
        this_process.watch_into(target, sink).await
    }

    async fn publish(&self, channel: &Key, message: Bytes) -> Result<()> {
        self.for_messages().publish(channel, message).await
    }

    async fn subscribe(&self, channels: &KeyPrefix) -> Result<MessageStream> {
        self.for_messages().subscribe(channels).await
    }

    async fn close(&self) -> Result<()> {
        let [this_process, other_process] = &self.handles;
        let closed = this_process.close().await;
        other_process.close().await.and(closed)
    }
}
