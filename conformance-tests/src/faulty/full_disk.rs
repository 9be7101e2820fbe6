//! Stores that answer wrongly on a full disk, or do not recover from it.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream;
use kv_core::{
    CommitOutcome, DeleteOptions, DeleteOutcome, Entry, Error, ErrorKind, Expiry, Key, KeyPrefix, KvStore, Mutation,
    Result, SetOptions, SetOutcome, Transaction, Version, WatchEvent, WatchQuery, WatchStream, delegate_store,
};
use tokio::sync::broadcast;

use super::faults;
use super::hidden::Hidden;
use super::scan;

faults! { full_disk:
    /// Acknowledges a write that found no room, and drops it, because the thread that writes ignores the error.
    dropped_writes_are_acknowledged: "E-1"
        ["full_disk/writes_are_refused", "full_disk/acknowledged_writes_are_read"]
        |inner, _clock| Full::new(inner, Reaction::Acknowledges);
    /// Reports `Unavailable` for a full disk, so that a caller waits for a server that runs.
    full_is_unavailable: "E-1"
        ["full_disk/writes_are_refused"]
        |inner, _clock| Full::new(inner, Reaction::Unavailable);
    /// Waits for room in a write, without an end.
    writes_wait_for_room: "E-2"
        ["full_disk/calls_end_in_time"]
        |inner, _clock| Full::new(inner, Reaction::Waits);
    /// Refuses all writes after the disk was full once, until the store is reopened.
    never_recovers: "E-1"
        ["full_disk/writes_work_again"]
        |inner, _clock| Full::new(inner, Reaction::StaysFull);
    /// Fails reads after a write found no room, because the connection is in a failed state.
    reads_fail_as_well: "G-2"
        ["full_disk/acknowledged_writes_are_read"]
        |inner, _clock| Full::new(inner, Reaction::FailsReads);
    /// Deletes the old entry before it writes the new entry, so that a write without room loses the old entry.
    old_entry_is_deleted_first: "E-1"
        ["full_disk/refused_writes_change_nothing"]
        |inner, _clock| Full::new(inner, Reaction::DeletesFirst);
    /// Keeps writes without room in memory, and loses them when the store is closed.
    writes_without_room_stay_in_memory: "R-2"
        ["full_disk/a_reopened_store_has_all"]
        |inner, _clock| Buffered { inner, buffer: Hidden::default() };
    /// Applies the mutations of a transaction one by one, and stops at the one that finds no room.
    transactions_stop_halfway: "X-1"
        ["full_disk/refused_transactions_change_nothing"]
        |inner, _clock| Halfway { inner };
    /// Acknowledges a delete that found no room in the log, and keeps the entry.
    deletes_are_dropped: "D-1"
        ["full_disk/deletes_work_or_are_refused"]
        |inner, _clock| Full::new(inner, Reaction::DropsDeletes);
    /// Counts the entries that `clear` finds, and ignores that their removal found no room.
    clear_is_dropped: "L-5"
        ["full_disk/cleared_entries_are_absent"]
        |inner, _clock| Full::new(inner, Reaction::DropsClear);
    /// Deletes an expired entry when the entry is read, and fails if the delete finds no room.
    expired_entries_need_room: "T-1"
        ["full_disk/expired_entries_are_absent"]
        |inner, _clock| DeletesOnRead { inner, expiring: Hidden::default(), had_no_room: AtomicBool::new(false) };
    /// Notifies watchers before it writes, so that a watcher gets an entry that found no room.
    reports_before_it_writes: "W-2"
        ["full_disk/refused_writes_are_not_reported"]
        |inner, _clock| ReportsFirst { inner, reports: broadcast::Sender::new(64) };
}

fn is_full<T>(result: &Result<T>) -> bool {
    result.as_ref().is_err_and(|error| error.kind() == ErrorKind::Capacity)
}

/// The reaction to a write that found no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reaction {
    Acknowledges,
    Unavailable,
    Waits,
    StaysFull,
    FailsReads,
    DeletesFirst,
    DropsDeletes,
    DropsClear,
}

#[derive(Debug)]
struct Full {
    inner: Arc<dyn KvStore>,
    reaction: Reaction,
    /// True after a set that found no room, until a set finds room.
    had_no_room: AtomicBool,
}

impl Full {
    fn new(inner: Arc<dyn KvStore>, reaction: Reaction) -> Self {
        Self { inner, reaction, had_no_room: AtomicBool::new(false) }
    }

    /// True if the store has this reaction and the disk is full.
    fn reacts(&self, reaction: Reaction) -> bool {
        self.reaction == reaction && self.had_no_room.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl KvStore for Full {
    delegate_store!(self.inner, except get get_many set set_many delete delete_many clear);

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        if self.reacts(Reaction::FailsReads) {
            return Err(Error::capacity("the disk is full").with_key(key));
        }
        self.inner.get(key).await
    }

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        if self.reacts(Reaction::StaysFull) {
            return Err(Error::capacity("the disk was full").with_key(key));
        }
        let result = self.inner.set(key, value, options).await;
        self.had_no_room.store(is_full(&result), Ordering::Relaxed);
        match (result, self.reaction) {
            (Err(_), Reaction::Acknowledges) => {
                Ok(SetOutcome::Stored { version: Some(Version::random()), previous: None })
            }
            (Err(error), Reaction::Unavailable) => Err(Error::unavailable(error.message().to_owned()).with_key(key)),
            (Err(_), Reaction::Waits) => std::future::pending().await,
            (Err(error), Reaction::DeletesFirst) => {
                let _ = self.inner.delete(key, &DeleteOptions::default()).await?;
                Err(error)
            }
            (result, _) => result,
        }
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
        if self.reacts(Reaction::DropsDeletes) && self.inner.contains(key).await? {
            return Ok(DeleteOutcome::Deleted { previous: None });
        }
        self.inner.delete(key, options).await
    }

    async fn clear(&self, prefix: &KeyPrefix) -> Result<u64> {
        if self.reacts(Reaction::DropsClear) {
            return Ok(scan::list_all(&*self.inner, prefix, true).await?.len() as u64);
        }
        self.inner.clear(prefix).await
    }
}

#[derive(Debug)]
struct Buffered {
    inner: Arc<dyn KvStore>,
    buffer: Hidden<HashMap<Key, Entry>>,
}

#[async_trait]
impl KvStore for Buffered {
    delegate_store!(self.inner, except get get_many contains set set_many delete delete_many);

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        let buffered = self.buffer.lock().get(key).cloned();
        if buffered.is_some() { Ok(buffered) } else { self.inner.get(key).await }
    }

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        let result = self.inner.set(key, value.clone(), options).await;
        // The buffer has room for a few entries.
        if !is_full(&result) || self.buffer.lock().len() >= 4 {
            return result;
        }
        let version = Version::random();
        self.buffer.lock().insert(key.clone(), Entry::new(value).with_version(version));
        Ok(SetOutcome::Stored { version: Some(version), previous: None })
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
        let buffered = self.buffer.lock().remove(key);
        let outcome = self.inner.delete(key, options).await?;
        Ok(if buffered.is_some() { DeleteOutcome::Deleted { previous: None } } else { outcome })
    }
}

#[derive(Debug)]
struct Halfway {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for Halfway {
    delegate_store!(self.inner, except commit);

    async fn commit(&self, transaction: &Transaction) -> Result<CommitOutcome> {
        let result = self.inner.commit(transaction).await;
        if is_full(&result) {
            for mutation in &transaction.mutations {
                let Mutation::Delete { key, .. } = mutation else { break };
                let _ = self.inner.delete(key, &DeleteOptions::default()).await?;
            }
        }
        result
    }
}

#[derive(Debug)]
struct DeletesOnRead {
    inner: Arc<dyn KvStore>,
    /// The keys that have a deadline and were not deleted.
    expiring: Hidden<Vec<Key>>,
    had_no_room: AtomicBool,
}

#[async_trait]
impl KvStore for DeletesOnRead {
    delegate_store!(self.inner, except get get_many contains set set_many);

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        let found = self.inner.get(key).await?;
        let has_expired = found.is_none() && self.expiring.lock().contains(key);
        if has_expired && self.had_no_room.load(Ordering::Relaxed) {
            return Err(Error::capacity("the expired entry was not deleted: the disk is full").with_key(key));
        }
        Ok(found)
    }

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        let result = self.inner.set(key, value, options).await;
        self.had_no_room.store(is_full(&result), Ordering::Relaxed);
        if options.expiry != Expiry::Never {
            self.expiring.lock().push(key.clone());
        }
        result
    }
}

/// Reports every set to watchers of all keys, also if the set finds no room.
struct ReportsFirst {
    inner: Arc<dyn KvStore>,
    reports: broadcast::Sender<WatchEvent>,
}

impl fmt::Debug for ReportsFirst {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReportsFirst").finish_non_exhaustive()
    }
}

#[async_trait]
impl KvStore for ReportsFirst {
    delegate_store!(self.inner, except set set_many watch);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        let result = self.inner.set(key, value.clone(), options).await;
        if is_full(&result) {
            let entry = Entry::new(value).with_version(Version::random());
            // Fails only if nothing is watched.
            let _ = self.reports.send(WatchEvent::Set { key: key.clone(), entry: Some(entry) });
        }
        result
    }

    async fn watch(&self, query: &WatchQuery) -> Result<WatchStream> {
        let events = self.inner.watch(query).await?;
        let reports = stream::unfold(self.reports.subscribe(), |mut reports| async move {
            Some((Ok(reports.recv().await.ok()?), reports))
        });
        Ok(Box::pin(stream::select(Box::pin(reports), events)))
    }
}
