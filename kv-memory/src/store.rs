//! The contract.

use std::future::poll_fn;
use std::task::Poll;

use async_trait::async_trait;
use bytes::Bytes;
use kv_core::{
    BoxFuture, CommitOutcome, DeleteOptions, DeleteOutcome, Entry, IncrementOptions, Key, KeyPrefix, KvStore, ListPage,
    ListQuery, MessageStream, NewExpiry, Operation, Result, SetItem, SetOptions, SetOutcome, StoreInfo, Transaction,
    WatchQuery, WatchStream,
};

use crate::engine::Engine;
use crate::memory::MemoryStore;
use crate::named::{named, named_key, refused};

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl KvStore for MemoryStore {
    fn info(&self) -> &StoreInfo {
        &self.inner.info
    }

    // What is asked for most goes to the engines by no way: each future around another costs it some nanoseconds. An `async`
    // block would move the entry once more, in pieces across its words.
    fn get<'store, 'key, 'call>(&'store self, key: &'key Key) -> BoxFuture<'call, Result<Option<Entry>>>
    where
        'store: 'call,
        'key: 'call,
    {
        let inner = &*self.inner;
        match &inner.engine {
            Engine::Unbounded(engine) => Box::pin(poll_fn(move |_| match inner.check_open() {
                Ok(()) => Poll::Ready(Ok(engine.get(key))),
                Err(error) => Poll::Ready(refused(Operation::Get, key, error)),
            })),
            Engine::Bounded(engine) => Box::pin(async move {
                match inner.check_open() {
                    Ok(()) => Ok(engine.get(key).await),
                    Err(error) => refused(Operation::Get, key, error),
                }
            }),
        }
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
        let (inner, mut value) = (&*self.inner, value);
        match &inner.engine {
            Engine::Unbounded(engine) => Box::pin(poll_fn(move |_| match inner.check_set(&value, options) {
                Ok(()) => Poll::Ready(Ok(engine.set(key, std::mem::take(&mut value), options))),
                Err(error) => Poll::Ready(refused(Operation::Set, key, error)),
            })),
            Engine::Bounded(engine) => Box::pin(async move {
                match inner.check_set(&value, options) {
                    Ok(()) => Ok(engine.set(key, value, options).await),
                    Err(error) => refused(Operation::Set, key, error),
                }
            }),
        }
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
        named_key(Operation::Delete, key, self.inner.delete(key, options).await)
    }

    async fn contains(&self, key: &Key) -> Result<bool> {
        named_key(Operation::Contains, key, self.inner.contains(key).await)
    }

    async fn get_many(&self, keys: &[Key]) -> Vec<Result<Option<Entry>>> {
        let answers = self.inner.get_many(keys).await;
        keys.iter().zip(answers).map(|(key, answer)| named_key(Operation::GetMany, key, answer)).collect()
    }

    async fn set_many(&self, items: &[SetItem]) -> Vec<Result<SetOutcome>> {
        let mut outcomes = Vec::with_capacity(items.len());
        for item in items {
            let outcome = self.inner.set(&item.key, item.value.clone(), &item.options).await;
            outcomes.push(named_key(Operation::SetMany, &item.key, outcome));
        }
        outcomes
    }

    async fn delete_many(&self, keys: &[Key]) -> Vec<Result<DeleteOutcome>> {
        let options = DeleteOptions::default();
        let mut outcomes = Vec::with_capacity(keys.len());
        for key in keys {
            outcomes.push(named_key(Operation::DeleteMany, key, self.inner.delete(key, &options).await));
        }
        outcomes
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
        named(Operation::Commit, self.inner.commit(transaction))
    }

    async fn watch(&self, query: &WatchQuery) -> Result<WatchStream> {
        named(Operation::Watch, self.follow(query))
    }

    async fn publish(&self, channel: &Key, message: Bytes) -> Result<()> {
        named_key(Operation::Publish, channel, self.inner.publish(channel, message))
    }

    async fn subscribe(&self, channels: &KeyPrefix) -> Result<MessageStream> {
        named(Operation::Subscribe, self.inner.subscribe(channels))
    }

    async fn ping(&self) -> Result<()> {
        named(Operation::Ping, self.inner.check_open())
    }

    async fn flush(&self) -> Result<()> {
        named(Operation::Flush, self.inner.check_open())
    }

    async fn sweep(&self) -> Result<u64> {
        named(Operation::Sweep, self.inner.sweep().await)
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await;
        Ok(())
    }
}
