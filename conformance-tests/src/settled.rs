//! Handles to a store with bounded reads (clause G-3), for cases that expect to read what other handles wrote.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use kv_core::{
    Clock, CommitOutcome, DeleteOptions, DeleteOutcome, Entry, GetOptions, GetOutcome, IncrementOptions, Key,
    KeyPrefix, KvStore, ListPage, ListQuery, Moment, NewExpiry, Reads, Result, SetItem, SetOptions, SetOutcome,
    SystemClock, Transaction, delegate_store,
};

/// The moments at which the last write of each handle of a case ended. Clones share one record.
#[derive(Debug, Clone, Default)]
pub(crate) struct Writes(Arc<Mutex<Vec<Option<Moment>>>>);

impl Writes {
    /// Wraps a handle whose reads are bounded, so that a read first waits until the writes of other handles must be
    /// visible. Returns every other handle as it is.
    pub(crate) fn settled(&self, inner: Arc<dyn KvStore>) -> Arc<dyn KvStore> {
        let Reads::Bounded(bound) = inner.info().reads else { return inner };
        let handle = self.with(|ends| {
            ends.push(None);
            ends.len() - 1
        });
        Arc::new(Settled { inner, bound, handle, writes: self.clone() })
    }

    fn with<T>(&self, change: impl FnOnce(&mut Vec<Option<Moment>>) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[derive(Debug)]
struct Settled {
    inner: Arc<dyn KvStore>,
    bound: Duration,
    /// The index of the handle in the record.
    handle: usize,
    writes: Writes,
}

impl Settled {
    /// Waits until the writes that have ended on other handles must be visible.
    async fn settle(&self) {
        let others = self.writes.with(|ends| {
            let others = ends.iter().enumerate().filter(|(handle, _)| *handle != self.handle);
            others.filter_map(|(_, end)| *end).max()
        });
        let left = others.map_or(Duration::ZERO, |end| self.bound.saturating_sub(end.elapsed()));
        if !left.is_zero() {
            SystemClock.sleep(left + Duration::from_millis(1)).await;
        }
    }

    async fn write<T>(&self, write: impl Future<Output = T> + Send) -> T {
        let result = write.await;
        self.writes.with(|ends| {
            if let Some(end) = ends.get_mut(self.handle) {
                *end = Some(Moment::now());
            }
        });
        result
    }
}

#[async_trait]
impl KvStore for Settled {
    delegate_store!(self.inner, except
        get get_with contains get_many list set delete set_many delete_many clear touch increment commit);

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        self.settle().await;
        self.inner.get(key).await
    }

    async fn get_with(&self, key: &Key, options: &GetOptions) -> Result<GetOutcome> {
        if !options.fresh {
            self.settle().await;
        }
        self.inner.get_with(key, options).await
    }

    async fn contains(&self, key: &Key) -> Result<bool> {
        self.settle().await;
        self.inner.contains(key).await
    }

    async fn get_many(&self, keys: &[Key]) -> Vec<Result<Option<Entry>>> {
        self.settle().await;
        self.inner.get_many(keys).await
    }

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        self.settle().await;
        self.inner.list(query).await
    }

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        self.write(self.inner.set(key, value, options)).await
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
        self.write(self.inner.delete(key, options)).await
    }

    async fn set_many(&self, items: &[SetItem]) -> Vec<Result<SetOutcome>> {
        self.write(self.inner.set_many(items)).await
    }

    async fn delete_many(&self, keys: &[Key]) -> Vec<Result<DeleteOutcome>> {
        self.write(self.inner.delete_many(keys)).await
    }

    async fn clear(&self, prefix: &KeyPrefix) -> Result<u64> {
        self.write(self.inner.clear(prefix)).await
    }

    async fn touch(&self, key: &Key, expiry: NewExpiry) -> Result<bool> {
        self.write(self.inner.touch(key, expiry)).await
    }

    async fn increment(&self, key: &Key, by: i64, options: &IncrementOptions) -> Result<i64> {
        self.write(self.inner.increment(key, by, options)).await
    }

    async fn commit(&self, transaction: &Transaction) -> Result<CommitOutcome> {
        self.write(self.inner.commit(transaction)).await
    }
}
