//! A simulated disk with room for a number of writes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use kv_core::{
    Bytes, CommitOutcome, Error, IncrementOptions, Key, KvStore, Mutation, NewExpiry, Result, SetOptions, SetOutcome,
    Transaction, delegate_store,
};

/// The disk of one store: the number of writes for which it has room, or `None` if it has room for all.
#[derive(Debug, Clone, Default)]
pub(super) struct Disk(Arc<Mutex<Option<usize>>>);

impl Disk {
    /// The room on a disk after [`Disk::fill`].
    const LEFT: usize = 3;

    pub(super) fn fill(&self) {
        *self.room() = Some(Self::LEFT);
    }

    pub(super) fn free(&self) {
        *self.room() = None;
    }

    fn room(&self) -> MutexGuard<'_, Option<usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the room of some writes.
    fn take(&self, writes: usize) -> Result<()> {
        let mut room = self.room();
        match &mut *room {
            None => Ok(()),
            Some(left) if *left >= writes => {
                *left -= writes;
                Ok(())
            }
            Some(_) => Err(Error::capacity("the disk is full")),
        }
    }
}

/// A store on a simulated disk. Deletes need no room, and make none.
#[derive(Debug)]
pub(super) struct OnDisk<S> {
    pub(super) inner: S,
    pub(super) disk: Disk,
}

#[async_trait]
impl<S: KvStore> KvStore for OnDisk<S> {
    delegate_store!(self.inner, except set set_many touch increment commit);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        self.disk.take(1).map_err(|error| error.with_key(key))?;
        self.inner.set(key, value, options).await
    }

    async fn touch(&self, key: &Key, expiry: NewExpiry) -> Result<bool> {
        self.disk.take(1).map_err(|error| error.with_key(key))?;
        self.inner.touch(key, expiry).await
    }

    async fn increment(&self, key: &Key, by: i64, options: &IncrementOptions) -> Result<i64> {
        self.disk.take(1).map_err(|error| error.with_key(key))?;
        self.inner.increment(key, by, options).await
    }

    async fn commit(&self, transaction: &Transaction) -> Result<CommitOutcome> {
        let sets = transaction.mutations.iter().filter(|mutation| matches!(mutation, Mutation::Set { .. })).count();
        self.disk.take(sets)?;
        self.inner.commit(transaction).await
    }
}
