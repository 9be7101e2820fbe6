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
use crate::state::State;

/// A store on a Redis or Valkey server, or on a Redis Cluster: one namespace of a database.
///
/// Clones share one store. [`close`](KvStore::close) on any clone closes the store for all clones. Dropping the last
/// clone closes the store, too. A watch stream holds a clone.
///
/// The store has its own connections: one to each server, and a second connection to each master while there are
/// watchers or subscribers.
#[derive(Debug, Clone)]
pub struct RedisStore {
    state: Arc<State>,
}

impl RedisStore {
    pub(crate) fn from_state(state: Arc<State>) -> Self {
        Self { state }
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl KvStore for RedisStore {
    fn info(&self) -> &StoreInfo {
        &self.state.info
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        CONTEXT.key(Operation::Get, key, self.state.get(key).await)
    }

    async fn get_with(&self, key: &Key, options: &GetOptions) -> Result<GetOutcome> {
        CONTEXT.key(Operation::Get, key, options.check(&self.state.info.capabilities))?;
        match options.unless_version {
            Some(version) => CONTEXT.key(Operation::Get, key, self.state.get_unless(key, &version).await),
            None => Ok(GetOutcome::of(self.get(key).await?, options)),
        }
    }

    async fn time(&self) -> Result<SystemTime> {
        CONTEXT.operation(Operation::Time, self.state.time().await)
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
        CONTEXT.key(Operation::Publish, channel, self.state.publish(channel, message).await)
    }

    async fn subscribe(&self, channels: &KeyPrefix) -> Result<MessageStream> {
        CONTEXT.operation(Operation::Subscribe, self.state.subscribe(channels).await)
    }

    async fn ping(&self) -> Result<()> {
        CONTEXT.operation(Operation::Ping, self.state.ping().await)
    }

    async fn flush(&self) -> Result<()> {
        // The store holds no pending writes: the server decides how durable an acknowledged write is.
        let is_durable = self.state.check_open().and_then(|()| self.state.write_gate.check_durability());
        CONTEXT.operation(Operation::Flush, is_durable)
    }

    async fn sweep(&self) -> Result<u64> {
        CONTEXT.operation(Operation::Sweep, self.state.sweep().await)
    }

    async fn close(&self) -> Result<()> {
        self.state.close();
        Ok(())
    }
}
