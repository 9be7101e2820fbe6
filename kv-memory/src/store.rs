//! The store handle and its implementation of [`KvStore`](kv_core::KvStore).

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use kv_core::{
    BoxFuture, ChangeSink, CommitOutcome, DeleteOptions, DeleteOutcome, Entry, GetOptions, GetOutcome,
    IncrementOptions, Key, KeyPrefix, KvStore, ListPage, ListQuery, MessageStream, NewExpiry, Operation, Registration,
    Result, SetItem, SetOptions, SetOutcome, StoreInfo, Transaction, WatchQuery, WatchStream, WatchTarget,
};

use crate::error::CONTEXT;
use crate::state::State;
use crate::stats::MemoryStats;

/// A key–value store in the memory of this process.
///
/// Clones share one store. `close` on any clone closes the store for all clones. Dropping the last clone frees the
/// entries, too. An open watch stream holds a clone.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use kv_memory::MemoryStore;
///
/// let unbounded = MemoryStore::new();
/// let cache = MemoryStore::builder().max_bytes(64 << 20).sweep_interval(Duration::from_secs(5)).build()?;
/// # Ok::<(), kv_core::Error>(())
/// ```
#[derive(Clone)]
pub struct MemoryStore {
    pub(crate) state: Arc<State>,
}

impl MemoryStore {
    /// Returns the numbers of entries and index items of the store.
    pub fn stats(&self) -> MemoryStats {
        self.state.engine.stats()
    }
}

/// Prints no keys and no values, because they may be secret.
impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("info", &self.state.info).finish_non_exhaustive()
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl KvStore for MemoryStore {
    fn info(&self) -> &StoreInfo {
        &self.state.info
    }

    // `get`, `set` and `publish` return the boxed future of the state directly, because an `async` block around that
    // future would cost some nanoseconds per call.
    fn get<'store, 'key, 'call>(&'store self, key: &'key Key) -> BoxFuture<'call, Result<Option<Entry>>>
    where
        'store: 'call,
        'key: 'call,
    {
        self.state.get(key)
    }

    fn set<'store, 'key, 'options, 'call>(
        &'store self,
        key: &'key Key,
        value: Bytes,
        options: &'options SetOptions,
    ) -> BoxFuture<'call, Result<SetOutcome>>
    where
        'store: 'call,
        'key: 'call,
        'options: 'call,
    {
        self.state.set(key, value, options)
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
        CONTEXT.key(Operation::Delete, key, self.state.delete(key, options).await)
    }

    async fn contains(&self, key: &Key) -> Result<bool> {
        CONTEXT.key(Operation::Contains, key, self.state.contains(key).await)
    }

    async fn get_with(&self, key: &Key, options: &GetOptions) -> Result<GetOutcome> {
        CONTEXT.key(Operation::Get, key, self.state.get_with(key, options).await)
    }

    async fn time(&self) -> Result<SystemTime> {
        CONTEXT.operation(Operation::Time, self.state.time().await)
    }

    async fn get_many(&self, keys: &[Key]) -> Vec<Result<Option<Entry>>> {
        CONTEXT.keys(Operation::GetMany, keys, self.state.get_many(keys).await)
    }

    async fn set_many(&self, items: &[SetItem]) -> Vec<Result<SetOutcome>> {
        CONTEXT.keys(Operation::SetMany, items.iter().map(|item| &item.key), self.state.set_many(items).await)
    }

    async fn delete_many(&self, keys: &[Key]) -> Vec<Result<DeleteOutcome>> {
        CONTEXT.keys(Operation::DeleteMany, keys, self.state.delete_many(keys).await)
    }

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        CONTEXT.operation(Operation::List, self.state.list(query).await)
    }

    async fn clear(&self, prefix: &KeyPrefix) -> Result<u64> {
        CONTEXT.operation(Operation::Clear, self.state.clear(prefix).await)
    }

    async fn touch(&self, key: &Key, expiry: NewExpiry) -> Result<bool> {
        CONTEXT.key(Operation::Touch, key, self.state.touch(key, expiry).await)
    }

    async fn increment(&self, key: &Key, by: i64, options: &IncrementOptions) -> Result<i64> {
        CONTEXT.key(Operation::Increment, key, self.state.increment(key, by, options).await)
    }

    async fn commit(&self, transaction: &Transaction) -> Result<CommitOutcome> {
        CONTEXT.operation(Operation::Commit, self.state.commit(transaction).await)
    }

    async fn watch(&self, query: &WatchQuery) -> Result<WatchStream> {
        CONTEXT.operation(Operation::Watch, self.state.watch(self.clone(), query).await)
    }

    async fn watch_into(&self, target: &WatchTarget, sink: Arc<dyn ChangeSink>) -> Result<Registration> {
        CONTEXT.operation(Operation::Watch, self.state.watch_into(target, sink).await)
    }

    fn publish<'store, 'channel, 'call>(
        &'store self,
        channel: &'channel Key,
        message: Bytes,
    ) -> BoxFuture<'call, Result<()>>
    where
        'store: 'call,
        'channel: 'call,
    {
        self.state.publish(channel, message)
    }

    async fn subscribe(&self, channels: &KeyPrefix) -> Result<MessageStream> {
        CONTEXT.operation(Operation::Subscribe, self.state.subscribe(channels).await)
    }

    async fn ping(&self) -> Result<()> {
        CONTEXT.operation(Operation::Ping, self.state.admit(1).await)
    }

    async fn flush(&self) -> Result<()> {
        CONTEXT.operation(Operation::Flush, self.state.admit(1).await)
    }

    async fn sweep(&self) -> Result<u64> {
        CONTEXT.operation(Operation::Sweep, self.state.sweep().await)
    }

    async fn close(&self) -> Result<()> {
        self.state.close().await;
        Ok(())
    }
}
