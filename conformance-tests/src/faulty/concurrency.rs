//! Writes that are late or in pieces, and calls that leave something behind when they are dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use kv_core::{
    Clock, CommitOutcome, DeleteOptions, DeleteOutcome, Entry, Error, Expiry, Key, KvStore, Mutation, Result,
    SetOptions, SetOutcome, SystemClock, Transaction, When, delegate_store,
};
use tokio::sync::Semaphore;

use super::conditions::stall;
use super::faults;

faults! { concurrency:
    delete_is_acknowledged_early: "G-2" "acknowledges a delete and applies it a moment later"
        ["list/sees_each_write", "keys/quotes", "keys/the_longest_key", "keys/unicode"]
        |inner, _clock| EarlyDelete { inner };
    plain_sets_pass_the_lock: "S-2" "judges conditions under a lock that plain sets do not take, as moka's `insert` does not"
        ["restart/handles_judge_together", "atomicity/counts_with_conditional_sets", "races/histories_are_linearizable",
         "races/one_holder_of_a_version_wins", "shared/one_of_all_creators_wins", "processes/one_of_all_creators_wins"]
        |inner, _clock| BesideTheLock { inner, lock: tokio::sync::Mutex::default() };
    set_is_delete_and_create: "G-2" "overwrites by a delete and a create: readers see the hole, and a call that is dropped in between leaves it"
        ["concurrency/reads_never_go_back", "cancel/large_set", "concurrency/histories_are_linearizable",
         "concurrency/values_are_never_mixed"]
        |inner, _clock| Hole { inner };
    one_await_point_is_a_hole: "A-1" "removes the old entry at the ninth of its await points and writes the new one at the tenth"
        ["cancel/set_at_every_point"]
        |inner, _clock| LateHole { inner };
    a_dropped_commit_is_half: "A-1" "a transaction whose caller has gone ends where it was"
        ["cancel/commit_at_every_point"]
        |inner, _clock| Stepwise { inner };
    value_and_version_are_read_apart: "G-1" "reads the value and then, in another round trip, the version and the deadline"
        ["versions/value_and_version_are_of_one_write", "races/sixteen_writers_count_to_eight_thousand"]
        |inner, _clock| TwoReads { inner };
    dropped_calls_keep_their_connection: "A-1" "a write that is dropped halfway never gives its connection back to the pool"
        ["cancel/many_at_random", "cancel/conditional_set", "cancel/set", "cancel/set_many"]
        |inner, _clock| Leaking { inner, pool: Arc::new(Semaphore::new(4)) };
    a_call_left_alone_keeps_the_lock: "A-2" "writes one after the other, under a lock that a call keeps while it waits"
        ["cancel/left_alone"]
        |inner, _clock| InLine { inner, lock: tokio::sync::Mutex::default() };
    first_uses_collide: "R-1" "creates its table on the first write, and clients that come together fail, as two `CREATE TABLE`s do"
        ["concurrency/a_hundred_first_uses", "basics/many_keys_at_first", "batch/batches_at_once",
         "concurrency/clients_on_their_own_keys_do_not_meet", "concurrency/racing_writers_leave_one_of_them"]
        |inner, _clock| Lazy { inner, is_created: AtomicBool::new(false) };
}

#[derive(Debug)]
struct EarlyDelete {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for EarlyDelete {
    delegate_store!(self.inner, except delete);

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
        if options.when != When::Always {
            return self.inner.delete(key, options).await;
        }
        let Some(entry) = self.inner.get(key).await? else { return self.inner.delete(key, options).await };
        let (inner, key, version) = (Arc::clone(&self.inner), key.clone(), entry.version);
        tokio::spawn(async move {
            SystemClock.sleep(Duration::from_millis(2)).await;
            let when = version.map_or(When::Present, When::Version);
            let _ = inner.delete(&key, &DeleteOptions::default().with_when(when)).await;
        });
        Ok(DeleteOutcome::Deleted { previous: Some(entry).filter(|_| options.return_previous) })
    }
}

#[derive(Debug)]
struct InLine {
    inner: Arc<dyn KvStore>,
    lock: tokio::sync::Mutex<()>,
}

#[async_trait]
impl KvStore for InLine {
    delegate_store!(self.inner, except set);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        let _turn = self.lock.lock().await;
        tokio::task::yield_now().await;
        self.inner.set(key, value, options).await
    }
}

#[derive(Debug)]
struct BesideTheLock {
    inner: Arc<dyn KvStore>,
    lock: tokio::sync::Mutex<()>,
}

#[async_trait]
impl KvStore for BesideTheLock {
    delegate_store!(self.inner, except set set_many);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        if options.when == When::Always {
            return self.inner.set(key, value, options).await;
        }
        self.info().limits.check_value(value.len())?;
        let _judging = self.lock.lock().await;
        let current = self.inner.get(key).await?;
        if !options.when.holds(current.as_ref()) {
            return Ok(SetOutcome::Refused { current });
        }
        stall().await;
        self.inner.set(key, value, &options.clone().with_when(When::Always)).await
    }
}

#[derive(Debug)]
struct Hole {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for Hole {
    delegate_store!(self.inner, except set set_many);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        let is_plain = options.when == When::Always && options.expiry != Expiry::Keep && !options.return_previous;
        if is_plain && self.info().limits.check_value(value.len()).is_ok() && self.inner.contains(key).await? {
            let _ = self.inner.delete(key, &DeleteOptions::default()).await?;
            stall().await;
        }
        self.inner.set(key, value, options).await
    }
}

/// Nothing else may come between, so a reader that waits for its answer never sees the hole.
#[derive(Debug)]
struct LateHole {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for LateHole {
    delegate_store!(self.inner, except set set_many);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        if *options != SetOptions::default() {
            return self.inner.set(key, value, options).await;
        }
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
        if self.inner.contains(key).await? {
            let _ = self.inner.delete(key, &DeleteOptions::default()).await?;
        }
        tokio::task::yield_now().await;
        self.inner.set(key, value, options).await
    }
}

#[derive(Debug)]
struct Stepwise {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for Stepwise {
    delegate_store!(self.inner, except commit);

    async fn commit(&self, transaction: &Transaction) -> Result<CommitOutcome> {
        let [Mutation::Set { key, value, expiry: Expiry::Never }, _] = transaction.mutations.as_slice() else {
            return self.inner.commit(transaction).await;
        };
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
        if transaction.checks.is_empty() {
            let _ = self.inner.set(key, value.clone(), &SetOptions::default()).await?;
        }
        tokio::task::yield_now().await;
        self.inner.commit(transaction).await
    }
}

#[derive(Debug)]
struct TwoReads {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for TwoReads {
    delegate_store!(self.inner, except get get_many);

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        let Some(mut entry) = self.inner.get(key).await? else { return Ok(None) };
        stall().await;
        if let Some(later) = self.inner.get(key).await? {
            entry.version = later.version;
            entry.expires = later.expires;
        }
        Ok(Some(entry))
    }
}

/// Every write takes a connection, and only one that gets to its end gives it back.
#[derive(Debug)]
struct Leaking {
    inner: Arc<dyn KvStore>,
    pool: Arc<Semaphore>,
}

#[async_trait]
impl KvStore for Leaking {
    delegate_store!(self.inner, except set set_many);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        let taken = tokio::time::timeout(Duration::from_millis(500), self.pool.acquire()).await;
        let Ok(Ok(connection)) = taken else { return Err(Error::unavailable("no connection is free")) };
        connection.forget();
        stall().await;
        let outcome = self.inner.set(key, value, options).await;
        self.pool.add_permits(1);
        outcome
    }
}

#[derive(Debug)]
struct Lazy {
    inner: Arc<dyn KvStore>,
    is_created: AtomicBool,
}

#[async_trait]
impl KvStore for Lazy {
    delegate_store!(self.inner, except set set_many);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        if !self.is_created.load(Ordering::Acquire) {
            stall().await;
            if self.is_created.swap(true, Ordering::AcqRel) {
                return Err(Error::unavailable("the table exists already"));
            }
        }
        self.inner.set(key, value, options).await
    }
}
