//! One store by two handles that take turns.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use kv_core::{KvStore, Result, StoreInfo, delegate_store};

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

    fn next(&self) -> &dyn KvStore {
        let [here, elsewhere] = &self.handles;
        if self.calls.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) { here } else { elsewhere }
    }
}

#[async_trait]
impl KvStore for Turns {
    delegate_store!(self.next(), except info close);

    fn info(&self) -> &StoreInfo {
        let [here, _] = &self.handles;
        here.info()
    }

    async fn close(&self) -> Result<()> {
        let [here, elsewhere] = &self.handles;
        let closed = here.close().await;
        elsewhere.close().await.and(closed)
    }
}
