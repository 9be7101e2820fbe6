//! The store handle and its implementation of [`KvStore`](kv_core::KvStore).

use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use kv_core::{
    ChangeSink, CommitOutcome, DeleteOptions, DeleteOutcome, Entry, GetOptions, GetOutcome, IncrementOptions, Key,
    KeyPrefix, KvStore, ListPage, ListQuery, MessageStream, NewExpiry, Operation, Registration, Result, SetItem,
    SetOptions, SetOutcome, StoreInfo, Transaction, WatchQuery, WatchStream, WatchTarget,
};

use crate::error::CONTEXT;
use crate::queue::Queue;
use crate::state::State;
use crate::stats::SledStats;

/// A store in a folder, in a database of sled.
///
/// Clones share one store. `close` on any clone closes the store for all clones. Dropping the last clone closes the
/// store, too. An open watch stream holds a clone.
///
/// # Examples
/// ```
/// use kv_core::{Key, KvStore, SetOptions};
/// use kv_sled::SledStore;
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("data");
/// # let rt = tokio::runtime::Builder::new_current_thread().build()?;
/// # rt.block_on(async {
/// let store = SledStore::open(path).await?;
/// let key = Key::new(["users", "1"])?;
/// store.set(&key, "ada".into(), &SetOptions::default()).await?;
/// assert_eq!(store.get(&key).await?.unwrap().value, "ada");
/// store.close().await
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct SledStore {
    queue: Arc<Queue>,
}

impl SledStore {
    pub(crate) fn new(queue: Queue) -> Self {
        Self { queue: Arc::new(queue) }
    }

    /// Returns the counters of the store's operations since it was opened.
    pub fn stats(&self) -> SledStats {
        self.state().counters.read()
    }

    fn state(&self) -> &Arc<State> {
        &self.queue.state
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl KvStore for SledStore {
    fn info(&self) -> &StoreInfo {
        &self.state().info
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        CONTEXT.key(Operation::Get, key, self.state().get(key).await)
    }

    async fn get_with(&self, key: &Key, options: &GetOptions) -> Result<GetOutcome> {
        CONTEXT.key(Operation::Get, key, options.check(&self.state().info.capabilities))?;
        Ok(GetOutcome::of(self.get(key).await?, options))
    }

    async fn time(&self) -> Result<SystemTime> {
        CONTEXT.operation(Operation::Time, self.state().check_open().map(|()| self.state().clock.now()))
    }

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        CONTEXT.key(Operation::Set, key, self.queue.set(key, value, options).await)
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
        CONTEXT.key(Operation::Delete, key, self.queue.delete(key, options).await)
    }

    async fn contains(&self, key: &Key) -> Result<bool> {
        CONTEXT.key(Operation::Contains, key, self.state().contains(key).await)
    }

    async fn get_many(&self, keys: &[Key]) -> Vec<Result<Option<Entry>>> {
        CONTEXT.keys(Operation::GetMany, keys, self.state().get_many(keys).await)
    }

    async fn set_many(&self, items: &[SetItem]) -> Vec<Result<SetOutcome>> {
        let outcomes = self.queue.set_many(items).await;
        CONTEXT.keys(Operation::SetMany, items.iter().map(|item| &item.key), outcomes)
    }

    async fn delete_many(&self, keys: &[Key]) -> Vec<Result<DeleteOutcome>> {
        CONTEXT.keys(Operation::DeleteMany, keys, self.queue.delete_many(keys).await)
    }

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        CONTEXT.operation(Operation::List, self.state().list(query).await)
    }

    async fn clear(&self, prefix: &KeyPrefix) -> Result<u64> {
        CONTEXT.operation(Operation::Clear, self.queue.clear(prefix).await)
    }

    async fn touch(&self, key: &Key, expiry: NewExpiry) -> Result<bool> {
        CONTEXT.key(Operation::Touch, key, self.queue.touch(key, expiry).await)
    }

    async fn increment(&self, key: &Key, by: i64, options: &IncrementOptions) -> Result<i64> {
        CONTEXT.key(Operation::Increment, key, self.queue.increment(key, by, options).await)
    }

    async fn commit(&self, transaction: &Transaction) -> Result<CommitOutcome> {
        CONTEXT.operation(Operation::Commit, self.queue.commit(transaction).await)
    }

    async fn watch(&self, query: &WatchQuery) -> Result<WatchStream> {
        CONTEXT.operation(Operation::Watch, self.state().watch(self.clone(), query))
    }

    async fn watch_into(&self, target: &WatchTarget, sink: Arc<dyn ChangeSink>) -> Result<Registration> {
        CONTEXT.operation(Operation::Watch, self.state().watch_into(target, sink))
    }

    async fn publish(&self, channel: &Key, message: Bytes) -> Result<()> {
        CONTEXT.key(Operation::Publish, channel, self.state().publish(channel, message))
    }

    async fn subscribe(&self, channels: &KeyPrefix) -> Result<MessageStream> {
        CONTEXT.operation(Operation::Subscribe, self.state().subscribe(channels))
    }

    async fn ping(&self) -> Result<()> {
        CONTEXT.operation(Operation::Ping, self.state().check_open())
    }

    async fn flush(&self) -> Result<()> {
        CONTEXT.operation(Operation::Flush, self.queue.flush().await)
    }

    async fn sweep(&self) -> Result<u64> {
        CONTEXT.operation(Operation::Sweep, self.queue.sweep().await)
    }

    async fn close(&self) -> Result<()> {
        CONTEXT.operation(Operation::Close, self.queue.close().await)
    }
}
