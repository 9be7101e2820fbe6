//! Entries that the harness has damaged.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use kv_core::{
    Entry, Error, Key, KeyPrefix, KvStore, ListPage, ListQuery, Result, SetOptions, SetOutcome, delegate_store,
};

/// The keys of the damaged entries of one store. A key in a namespace is damaged if it ends with such a key, because the
/// harness does not know the namespace.
#[derive(Debug, Clone, Default)]
pub(super) struct DamagedKeys(Arc<Mutex<Vec<Key>>>);

impl DamagedKeys {
    pub(super) fn insert(&self, key: Key) {
        self.lock().push(key);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Key>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self, key: &Key) -> Result<()> {
        if self.lock().iter().any(|damaged| ends_with(key, damaged)) { Err(error(key)) } else { Ok(()) }
    }
}

fn ends_with(key: &Key, end: &Key) -> bool {
    let (key, end): (Vec<_>, Vec<_>) = (key.segments().collect(), end.segments().collect());
    key.ends_with(&end)
}

fn error(key: &Key) -> Error {
    Error::corrupt("the checksum of the entry is wrong").with_key(key)
}

/// A store that cannot read the damaged entries of the inner store.
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
        self.keys.lock().retain(|damaged| !ends_with(key, damaged));
        Ok(outcome)
    }

    async fn clear(&self, prefix: &KeyPrefix) -> Result<u64> {
        let removed = self.inner.clear(prefix).await?;
        // The cases clear only the whole store.
        self.keys.lock().clear();
        Ok(removed)
    }

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        let mut page = self.inner.list(query).await?;
        page.damaged = page.items.iter().filter_map(|item| self.keys.check(&item.key).err()).collect();
        page.items.retain(|item| self.keys.check(&item.key).is_ok());
        Ok(page)
    }
}
