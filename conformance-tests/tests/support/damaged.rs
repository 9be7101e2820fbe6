//! Entries that the harness has damaged.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use kv_core::{
    Entry, Error, Key, KeyPrefix, KvStore, ListPage, ListQuery, Result, SetOptions, SetOutcome, delegate_store,
};

/// The keys of the damaged entries of one store.
#[derive(Debug, Clone, Default)]
pub(super) struct DamagedKeys(Arc<Mutex<BTreeSet<Key>>>);

impl DamagedKeys {
    pub(super) fn insert(&self, key: Key) {
        self.lock().insert(key);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<Key>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self, key: &Key) -> Result<()> {
        if self.lock().contains(key) { Err(error(key)) } else { Ok(()) }
    }
}

fn error(key: &Key) -> Error {
    Error::corrupt("the checksum of the entry is wrong").with_key(key)
}

/// A store that cannot read the damaged entries of the store below.
#[derive(Debug)]
pub(super) struct Damaged<S> {
    pub(super) inner: S,
    pub(super) keys: DamagedKeys,
}

#[async_trait]
impl<S: KvStore> KvStore for Damaged<S> {
    delegate_store!(self.inner, except get get_many set clear list);

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        self.keys.check(key)?;
        self.inner.get(key).await
    }

    async fn get_many(&self, keys: &[Key]) -> Vec<Result<Option<Entry>>> {
        let entries = self.inner.get_many(keys).await;
        keys.iter().zip(entries).map(|(key, entry)| self.keys.check(key).and(entry)).collect()
    }

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        let outcome = self.inner.set(key, value, options).await?;
        self.keys.lock().remove(key);
        Ok(outcome)
    }

    async fn clear(&self, prefix: &KeyPrefix) -> Result<u64> {
        let removed = self.inner.clear(prefix).await?;
        self.keys.lock().retain(|key| !prefix.covers(key));
        Ok(removed)
    }

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        let mut page = self.inner.list(query).await?;
        let damaged = self.keys.lock().clone();
        page.items.retain(|item| !damaged.contains(&item.key));
        let reaches = |key: &Key| match &page.next {
            Some(next) if query.reverse => key >= next,
            Some(next) => key <= next,
            None => true,
        };
        let Some(range) = query.range() else { return Ok(page) };
        page.damaged = damaged
            .iter()
            .filter(|key| std::ops::RangeBounds::contains(&range, &key.as_str().to_owned()) && reaches(key))
            .map(error)
            .collect();
        if query.reverse {
            page.damaged.reverse();
        }
        Ok(page)
    }
}
