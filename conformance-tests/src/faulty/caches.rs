//! Stores that read from outdated copies.

use std::collections::HashMap;
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use kv_core::{
    Clock, CommitOutcome, DeleteOptions, DeleteOutcome, Entry, Expires, IncrementOptions, Key, KeyPrefix, KvStore,
    NewExpiry, Result, SetOptions, SetOutcome, SystemClock, Transaction, delegate_store,
};
use tokio::task;

use super::faults;
use super::hidden::Hidden;

faults! { caches:
    /// Keeps entries in a cache that deletes do not invalidate.
    delete_leaves_a_cached_copy: "D-1"
        ["basics/delete_removes", "cancel/get", "injectivity/patterns", "keys/numbers_stay_text",
         "restart/handles_share", "shared/batches_are_seen", "processes/batches_are_seen",
         "transactions/all_is_applied"]
        |inner, clock| UninvalidatedCache { inner, clock, copies: Hidden::default() };
    /// Answers reads from a cache of this handle that is up to half a second old and ignores writes of other handles.
    reads_are_stale: "G-2"
        ["shared/histories_are_linearizable", "processes/histories_are_linearizable",
         "shared/histories_with_conditions_are_linearizable", "processes/histories_with_conditions_are_linearizable", "random/two_handles"]
        |inner, clock| StaleReads { inner, clock, copies: Hidden::default() };
    /// Reads from a replica that lags two milliseconds, except in the task that wrote the key.
    replicas_lag: "G-2"
        ["concurrency/acknowledged_writes_are_seen_by_all", "races/plain_writes_and_swaps_lose_no_update"]
        |inner, _clock| LaggingReplica { inner, replica: Hidden::default() };
}

#[derive(Debug)]
struct UninvalidatedCache {
    inner: Arc<dyn KvStore>,
    clock: Arc<dyn Clock>,
    copies: Hidden<HashMap<Key, Entry>>,
}

impl UninvalidatedCache {
    fn copies(&self) -> MutexGuard<'_, HashMap<Key, Entry>> {
        self.copies.lock()
    }
}

#[async_trait]
impl KvStore for UninvalidatedCache {
    delegate_store!(self.inner, except get get_many set set_many);

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        let found = self.inner.get(key).await?;
        if found.is_some() {
            return Ok(found);
        }
        let copy = self.copies().get(key).cloned();
        Ok(copy.filter(|copy| is_live(copy, self.clock.now())))
    }

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        let outcome = self.inner.set(key, value, options).await?;
        match self.inner.get(key).await? {
            Some(entry) => self.copies().insert(key.clone(), entry),
            None => self.copies().remove(key),
        };
        Ok(outcome)
    }
}

fn is_live(entry: &Entry, now: SystemTime) -> bool {
    !matches!(entry.expires, Expires::At(deadline) if deadline <= now)
}

#[derive(Debug)]
struct StaleReads {
    inner: Arc<dyn KvStore>,
    clock: Arc<dyn Clock>,
    copies: Hidden<HashMap<Key, (SystemTime, Option<Entry>)>>,
}

impl StaleReads {
    const MAX_AGE: Duration = Duration::from_millis(500);

    fn copies(&self) -> MutexGuard<'_, HashMap<Key, (SystemTime, Option<Entry>)>> {
        self.copies.lock()
    }
}

#[async_trait]
impl KvStore for StaleReads {
    delegate_store!(self.inner, except get get_many set set_many delete delete_many clear touch increment commit);

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        let now = SystemClock.now();
        let copy = self.copies().get(key).filter(|(read, _)| now < *read + Self::MAX_AGE).map(|(_, copy)| copy.clone());
        if let Some(entry) = copy {
            return Ok(entry.filter(|entry| is_live(entry, self.clock.now())));
        }
        let entry = self.inner.get(key).await?;
        self.copies().insert(key.clone(), (now, entry.clone()));
        Ok(entry)
    }

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        let outcome = self.inner.set(key, value, options).await;
        self.copies().remove(key);
        outcome
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
        let outcome = self.inner.delete(key, options).await;
        self.copies().remove(key);
        outcome
    }

    async fn clear(&self, prefix: &KeyPrefix) -> Result<u64> {
        let cleared = self.inner.clear(prefix).await;
        self.copies().clear();
        cleared
    }

    async fn touch(&self, key: &Key, expiry: NewExpiry) -> Result<bool> {
        let touched = self.inner.touch(key, expiry).await;
        self.copies().remove(key);
        touched
    }

    async fn increment(&self, key: &Key, by: i64, options: &IncrementOptions) -> Result<i64> {
        let sum = self.inner.increment(key, by, options).await;
        self.copies().remove(key);
        sum
    }

    async fn commit(&self, transaction: &Transaction) -> Result<CommitOutcome> {
        let outcome = self.inner.commit(transaction).await;
        self.copies().clear();
        outcome
    }
}

/// The entry that the replica shows for a key until the replication arrives, and the task that replaced the entry.
#[derive(Debug, Clone)]
struct OldEntry {
    entry: Option<Entry>,
    until: SystemTime,
    writer: Option<task::Id>,
}

#[derive(Debug)]
struct LaggingReplica {
    inner: Arc<dyn KvStore>,
    replica: Hidden<HashMap<Key, OldEntry>>,
}

impl LaggingReplica {
    const LAG: Duration = Duration::from_millis(2);

    /// Records the current entry, which the replica shows for a while. Each write calls this first.
    async fn keep_old_entry(&self, key: &Key) -> Result<()> {
        let entry = self.inner.get(key).await?;
        let old = OldEntry { entry, until: SystemClock.now() + Self::LAG, writer: task::try_id() };
        self.replica.lock().insert(key.clone(), old);
        Ok(())
    }
}

#[async_trait]
impl KvStore for LaggingReplica {
    delegate_store!(self.inner, except get get_many set set_many delete delete_many);

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        let old = self.replica.lock().get(key).cloned();
        match old.filter(|old| old.writer != task::try_id() && SystemClock.now() < old.until) {
            Some(old) => Ok(old.entry),
            None => self.inner.get(key).await,
        }
    }

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        self.keep_old_entry(key).await?;
        self.inner.set(key, value, options).await
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
        self.keep_old_entry(key).await?;
        self.inner.delete(key, options).await
    }
}
