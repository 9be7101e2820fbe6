//! The store handle and its implementation of [`KvStore`](kv_core::KvStore).

use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use kv_core::{
    ChangeSink, CommitOutcome, DeleteOptions, DeleteOutcome, Entry, GetOptions, GetOutcome, IncrementOptions, Key,
    KeyPrefix, KvStore, ListPage, ListQuery, MessageStream, NewExpiry, Operation, Registration, Result, SetItem,
    SetOptions, SetOutcome, StoreInfo, TakeEntry, Transaction, WatchQuery, WatchStream, WatchTarget,
};

use crate::error::CONTEXT;
use crate::state::State;
use crate::verify::Verification;

/// A store in an SQLite database: one table of a file, or of a database in memory.
///
/// Clones share one store. [`close`](KvStore::close) on any clone closes the store for all clones. Dropping the last
/// clone closes the store, too. A watch stream holds a clone.
///
/// The store has its own connections and threads, and never uses a connection or a transaction of the caller.
#[derive(Debug, Clone)]
pub struct SqliteStore {
    state: Arc<State>,
}

impl SqliteStore {
    pub(crate) fn from_state(state: State) -> Self {
        Self { state: Arc::new(state) }
    }

    /// Checks the whole file: its structure, and the checksums of every entry of this table.
    ///
    /// The check changes nothing, and takes as long as reading the whole file. If the store is in a file, other calls
    /// can run at the same time.
    ///
    /// # Errors
    /// `Unavailable` if the file cannot be read at all, and `Closed`. Damage is reported in the result, not as an
    /// error.
    pub async fn verify(&self) -> Result<Verification> {
        self.salvage(Box::new(|_, _| Ok(()))).await
    }

    /// Checks the file as [`SqliteStore::verify`] does, and passes each sound entry to `take`, including expired
    /// entries that are not swept yet.
    ///
    /// # Errors
    /// The errors of [`SqliteStore::verify`], and the first error that `take` returns.
    pub async fn salvage(&self, take: TakeEntry) -> Result<Verification> {
        self.state.salvage(take).await
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl KvStore for SqliteStore {
    fn info(&self) -> &StoreInfo {
        &self.state.info
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        CONTEXT.key(Operation::Get, key, self.state.get(key).await)
    }

    async fn get_with(&self, key: &Key, options: &GetOptions) -> Result<GetOutcome> {
        CONTEXT.key(Operation::Get, key, options.check(self.state.capabilities()))?;
        Ok(GetOutcome::of(self.get(key).await?, options))
    }

    async fn time(&self) -> Result<SystemTime> {
        CONTEXT.operation(Operation::Time, self.state.check_open().map(|()| self.state.clock.now()))
    }

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        CONTEXT.key(Operation::Set, key, self.state.set(key, value, options).await)
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
        CONTEXT.key(Operation::Delete, key, self.state.delete(key, options).await)
    }

    async fn contains(&self, key: &Key) -> Result<bool> {
        CONTEXT.key(Operation::Contains, key, self.state.contains(key).await)
    }

    async fn get_many(&self, keys: &[Key]) -> Vec<Result<Option<Entry>>> {
        CONTEXT.keys(Operation::GetMany, keys, self.state.get_many(keys).await)
    }

    async fn set_many(&self, items: &[SetItem]) -> Vec<Result<SetOutcome>> {
        let keys = items.iter().map(|item| &item.key);
        CONTEXT.keys(Operation::SetMany, keys, self.state.set_many(items).await)
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

    async fn publish(&self, channel: &Key, message: Bytes) -> Result<()> {
        CONTEXT.key(Operation::Publish, channel, self.state.publish(channel, message))
    }

    async fn subscribe(&self, channels: &KeyPrefix) -> Result<MessageStream> {
        CONTEXT.operation(Operation::Subscribe, self.state.subscribe(channels))
    }

    async fn ping(&self) -> Result<()> {
        CONTEXT.operation(Operation::Ping, self.state.ping().await)
    }

    async fn flush(&self) -> Result<()> {
        CONTEXT.operation(Operation::Flush, self.state.flush().await)
    }

    async fn sweep(&self) -> Result<u64> {
        CONTEXT.operation(Operation::Sweep, self.state.sweep().await)
    }

    async fn close(&self) -> Result<()> {
        CONTEXT.operation(Operation::Close, self.state.close().await)
    }
}
