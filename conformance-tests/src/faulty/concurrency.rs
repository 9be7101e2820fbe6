//! Late and partial writes, and dropped calls that leave a partial write, hold a lock, or do not return a connection.

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

use super::conditions::yield_to_others;
use super::faults;

faults! { concurrency:
    /// Acknowledges a delete two milliseconds before it applies it.
    delete_is_acknowledged_early: "G-2"
        ["list/sees_each_write", "keys/quotes", "keys/the_longest_key", "keys/unicode"]
        |inner, _clock| EarlyDelete { inner };
    /// Evaluates conditions under a lock that plain sets do not take, as moka's `insert` does not.
    plain_sets_ignore_the_lock: "S-2"
        ["restart/handles_judge_together", "atomicity/counts_with_conditional_sets", "races/histories_are_linearizable",
         "races/one_holder_of_a_version_wins", "shared/one_of_all_creators_wins", "processes/one_of_all_creators_wins"]
        |inner, _clock| LockIgnoredBySets { inner, lock: tokio::sync::Mutex::default() };
    /// Overwrites by a delete and a create, so readers see no entry in between, and a dropped call leaves no entry.
    set_is_delete_and_create: "G-2"
        ["concurrency/reads_never_go_back", "cancel/large_set", "concurrency/histories_are_linearizable",
         "concurrency/values_are_never_mixed", "random/calls_together"]
        |inner, _clock| DeleteThenCreate { inner };
    /// Deletes the old entry in its ninth poll and writes the new one in its tenth, so a set that is dropped in
    /// between leaves no entry.
    dropped_set_leaves_no_entry: "A-1"
        ["cancel/set_at_every_point"]
        |inner, _clock| LateDeleteThenCreate { inner };
    /// Leaves half of a transaction applied if the caller drops the commit.
    dropped_commit_is_half_applied: "A-1"
        ["cancel/commit_at_every_point"]
        |inner, _clock| HalfCommitted { inner };
    /// Reads the previous entry first and replaces it in a second step, as a statement does that reads the row before
    /// it waits for the lock of the row.
    previous_entry_is_read_before_the_lock: "S-1"
        ["concurrency/previous_entries_show_the_touch_before_them"]
        |inner, _clock| EarlyPrevious { inner };
    /// Reads the value first, and the version and the deadline in a second round trip.
    value_and_version_are_read_separately: "G-1"
        ["versions/value_and_version_are_of_one_write", "races/sixteen_writers_count_to_eight_thousand"]
        |inner, _clock| TwoReads { inner };
    /// Does not return the connection of a dropped `set` to the pool.
    dropped_calls_keep_their_connection: "A-1"
        ["cancel/many_at_random", "cancel/conditional_set", "cancel/set", "cancel/set_many"]
        |inner, _clock| LeakingPool { inner, pool: Arc::new(Semaphore::new(4)) };
    /// Serialises writes with a lock that a call holds across an await point.
    unpolled_call_holds_the_lock: "A-2"
        ["cancel/left_alone"]
        |inner, _clock| LockHeldAcrossAwait { inner, lock: tokio::sync::Mutex::default() };
    /// Creates its table on the first write, so concurrent first writes fail, as two `CREATE TABLE`s do.
    concurrent_first_writes_fail: "R-1"
        ["concurrency/a_hundred_first_uses", "basics/many_keys_at_first", "batch/batches_at_once",
         "concurrency/clients_on_their_own_keys_do_not_meet", "concurrency/racing_writers_leave_one_of_them"]
        |inner, _clock| CreatesTableOnFirstWrite { inner, is_created: AtomicBool::new(false) };
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
struct LockHeldAcrossAwait {
    inner: Arc<dyn KvStore>,
    lock: tokio::sync::Mutex<()>,
}

#[async_trait]
impl KvStore for LockHeldAcrossAwait {
    delegate_store!(self.inner, except set);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        let _write_lock = self.lock.lock().await;
        tokio::task::yield_now().await;
        self.inner.set(key, value, options).await
    }
}

#[derive(Debug)]
struct LockIgnoredBySets {
    inner: Arc<dyn KvStore>,
    lock: tokio::sync::Mutex<()>,
}

#[async_trait]
impl KvStore for LockIgnoredBySets {
    delegate_store!(self.inner, except set set_many);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        if options.when == When::Always {
            return self.inner.set(key, value, options).await;
        }
        self.info().limits.check_value(value.len())?;
        let _evaluating = self.lock.lock().await;
        let current = self.inner.get(key).await?;
        if !options.when.holds(current.as_ref()) {
            return Ok(SetOutcome::Refused { current });
        }
        yield_to_others().await;
        self.inner.set(key, value, &options.clone().with_when(When::Always)).await
    }
}

#[derive(Debug)]
struct DeleteThenCreate {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for DeleteThenCreate {
    delegate_store!(self.inner, except set set_many);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        let is_plain = options.when == When::Always && options.expiry != Expiry::Keep && !options.return_previous;
        if is_plain && self.info().limits.check_value(value.len()).is_ok() && self.inner.contains(key).await? {
            let _ = self.inner.delete(key, &DeleteOptions::default()).await?;
            yield_to_others().await;
        }
        self.inner.set(key, value, options).await
    }
}

/// Only a set that is dropped between the two polls leaves no entry. A caller that awaits the set reads the new entry
/// afterwards.
#[derive(Debug)]
struct LateDeleteThenCreate {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for LateDeleteThenCreate {
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
struct HalfCommitted {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for HalfCommitted {
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
        yield_to_others().await;
        if let Some(later) = self.inner.get(key).await? {
            entry.version = later.version;
            entry.expires = later.expires;
        }
        Ok(Some(entry))
    }
}

/// Every `set` takes a connection from the pool, and returns the connection only if the `set` ends.
#[derive(Debug)]
struct LeakingPool {
    inner: Arc<dyn KvStore>,
    pool: Arc<Semaphore>,
}

#[async_trait]
impl KvStore for LeakingPool {
    delegate_store!(self.inner, except set set_many);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        let taken = tokio::time::timeout(Duration::from_millis(500), self.pool.acquire()).await;
        let Ok(Ok(connection)) = taken else { return Err(Error::unavailable("no connection is free")) };
        connection.forget();
        yield_to_others().await;
        let outcome = self.inner.set(key, value, options).await;
        self.pool.add_permits(1);
        outcome
    }
}

#[derive(Debug)]
struct CreatesTableOnFirstWrite {
    inner: Arc<dyn KvStore>,
    is_created: AtomicBool,
}

#[async_trait]
impl KvStore for CreatesTableOnFirstWrite {
    delegate_store!(self.inner, except set set_many);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        if !self.is_created.load(Ordering::Acquire) {
            yield_to_others().await;
            if self.is_created.swap(true, Ordering::AcqRel) {
                return Err(Error::unavailable("the table exists already"));
            }
        }
        self.inner.set(key, value, options).await
    }
}

#[derive(Debug)]
struct EarlyPrevious {
    inner: Arc<dyn KvStore>,
}

impl EarlyPrevious {
    /// Returns the previous entry with the deadline that it had at the read.
    fn outdated(previous: Option<Entry>, read: Option<&Entry>) -> Option<Entry> {
        previous.map(|mut entry| {
            entry.expires = read.map_or(entry.expires, |read| read.expires);
            entry
        })
    }

    async fn read(&self, key: &Key) -> Result<Option<Entry>> {
        let read = self.inner.get(key).await?;
        SystemClock.sleep(Duration::from_millis(1)).await;
        Ok(read)
    }
}

#[async_trait]
impl KvStore for EarlyPrevious {
    delegate_store!(self.inner, except set delete);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        if !options.return_previous {
            return self.inner.set(key, value, options).await;
        }
        let read = self.read(key).await?;
        Ok(match self.inner.set(key, value, options).await? {
            SetOutcome::Stored { version, previous } => {
                SetOutcome::Stored { version, previous: Self::outdated(previous, read.as_ref()) }
            }
            refused @ SetOutcome::Refused { .. } => refused,
        })
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
        if !options.return_previous {
            return self.inner.delete(key, options).await;
        }
        let read = self.read(key).await?;
        Ok(match self.inner.delete(key, options).await? {
            DeleteOutcome::Deleted { previous } => {
                DeleteOutcome::Deleted { previous: Self::outdated(previous, read.as_ref()) }
            }
            other => other,
        })
    }
}
