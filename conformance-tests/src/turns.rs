//! One store by two handles that take turns.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use kv_core::{Key, KeyPrefix, KvStore, MessageStream, Reach, Result, StoreInfo, delegate_store};

/// Gives each call to the other of two handles than the call before it.
#[derive(Debug)]
pub(crate) struct Turns {
    handles: [Arc<dyn KvStore>; 2],
    calls: AtomicUsize,
}

impl Turns {
    pub(crate) fn new(here: Arc<dyn KvStore>, elsewhere: Arc<dyn KvStore>) -> Self {
        Self { handles: [here, elsewhere], calls: AtomicUsize::new(0) }
    }

    /// Where messages go: to one handle alone where they do not leave its process.
    fn messenger(&self) -> &dyn KvStore {
        let [here, _] = &self.handles;
        if here.info().capabilities.messages == Reach::Process { here } else { self.next() }
    }

    fn next(&self) -> &dyn KvStore {
        let [here, elsewhere] = &self.handles;
        if self.calls.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) { here } else { elsewhere }
    }
}

#[async_trait]
impl KvStore for Turns {
    delegate_store!(self.next(), except info publish subscribe close);

    fn info(&self) -> &StoreInfo {
        let [here, _] = &self.handles;
        here.info()
    }

    async fn publish(&self, channel: &Key, message: Bytes) -> Result<()> {
        self.messenger().publish(channel, message).await
    }

    async fn subscribe(&self, channels: &KeyPrefix) -> Result<MessageStream> {
        self.messenger().subscribe(channels).await
    }

    async fn close(&self) -> Result<()> {
        let [here, elsewhere] = &self.handles;
        let closed = here.close().await;
        elsewhere.close().await.and(closed)
    }
}
