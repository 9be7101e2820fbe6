//! The contract.

use async_trait::async_trait;
use bytes::Bytes;
use kv_core::{
    CommitOutcome, DeleteOptions, DeleteOutcome, Entry, IncrementOptions, Key, KeyPrefix, KvStore, ListPage, ListQuery,
    MessageStream, NewExpiry, Operation, Result, SetItem, SetOptions, SetOutcome, StoreInfo, Transaction, WatchQuery,
    WatchStream, follow,
};

use crate::handle::SledStore;
use crate::named::{named, named_key};

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl KvStore for SledStore {
    fn info(&self) -> &StoreInfo {
        &self.inner.info
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        named_key(Operation::Get, key, self.inner.get(key).await)
    }

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        named_key(Operation::Set, key, self.inner.set(key, value, options).await)
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
        named_key(Operation::Delete, key, self.inner.delete(key, options).await)
    }

    async fn contains(&self, key: &Key) -> Result<bool> {
        named_key(Operation::Contains, key, self.inner.contains(key).await)
    }

    async fn get_many(&self, keys: &[Key]) -> Vec<Result<Option<Entry>>> {
        let mut answers = Vec::with_capacity(keys.len());
        for key in keys {
            answers.push(named_key(Operation::GetMany, key, self.inner.get(key).await));
        }
        answers
    }

    async fn set_many(&self, items: &[SetItem]) -> Vec<Result<SetOutcome>> {
        let outcomes = self.inner.set_many(items).await;
        let named = |(outcome, item): (_, &SetItem)| named_key(Operation::SetMany, &item.key, outcome);
        outcomes.into_iter().zip(items).map(named).collect()
    }

    async fn delete_many(&self, keys: &[Key]) -> Vec<Result<DeleteOutcome>> {
        let outcomes = self.inner.delete_many(keys).await;
        outcomes.into_iter().zip(keys).map(|(outcome, key)| named_key(Operation::DeleteMany, key, outcome)).collect()
    }

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        named(Operation::List, self.inner.list(query).await)
    }

    async fn clear(&self, prefix: &KeyPrefix) -> Result<u64> {
        named(Operation::Clear, self.inner.clear(prefix).await)
    }

    async fn touch(&self, key: &Key, expiry: NewExpiry) -> Result<bool> {
        named_key(Operation::Touch, key, self.inner.touch(key, expiry).await)
    }

    async fn increment(&self, key: &Key, by: i64, options: &IncrementOptions) -> Result<i64> {
        named_key(Operation::Increment, key, self.inner.increment(key, by, options).await)
    }

    async fn commit(&self, transaction: &Transaction) -> Result<CommitOutcome> {
        named(Operation::Commit, self.inner.commit(transaction).await)
    }

    async fn watch(&self, query: &WatchQuery) -> Result<WatchStream> {
        let open = query.check(&self.info().capabilities).and_then(|()| self.inner.shared.health.check());
        named(Operation::Watch, open)?;
        let inbox = self.inner.shared.changes.subscribe(query.target.prefix());
        Ok(follow(self.clone(), query.clone(), inbox))
    }

    async fn publish(&self, channel: &Key, message: Bytes) -> Result<()> {
        named_key(Operation::Publish, channel, self.inner.publish(channel, message))
    }

    async fn subscribe(&self, channels: &KeyPrefix) -> Result<MessageStream> {
        named(Operation::Subscribe, self.inner.subscribe(channels))
    }

    async fn ping(&self) -> Result<()> {
        named(Operation::Ping, self.inner.shared.health.check())
    }

    async fn flush(&self) -> Result<()> {
        named(Operation::Flush, self.inner.flush().await)
    }

    async fn sweep(&self) -> Result<u64> {
        named(Operation::Sweep, self.inner.sweep().await)
    }

    async fn close(&self) -> Result<()> {
        named(Operation::Close, self.inner.close().await)
    }
}
