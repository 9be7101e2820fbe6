//! Reports that a watch loses or delays because of another event at the same time.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use kv_core::{
    Clock, CommitOutcome, DeleteOptions, DeleteOutcome, Expiry, Initial, Key, KvStore, Mutation, Report, Result,
    SetOptions, SetOutcome, Transaction, WatchEvent, WatchQuery, WatchStream, WatchTarget, delegate_store,
};
use tokio::sync::watch;

use super::faults;
use super::hidden::Hidden;
use super::scan;

faults! { watch_moments:
    /// Reads the snapshot first and registers the watch afterwards, so that a write in between is lost.
    registers_after_the_snapshot: "W-8"
        ["watch_moments/writes_while_it_opens", "watch_moments/writes_while_it_opens_on_one_key"]
        |inner, _clock| LateRegistration { inner };
    /// Drops the changes that a watcher has not read yet when a sweep frees the tombstones of the keys.
    sweep_drops_unread_removals: "W-1"
        ["watch_moments/sweep_before_delivery"]
        |inner, _clock| SweptRemovals { inner, unread: Arc::default() };
    /// Finds expired entries only when a call sweeps, so that a watcher of an idle store gets no report of an expiry.
    expiry_is_reported_by_calls_only: "W-1"
        ["watch_moments/expiry_without_a_call"]
        |inner, clock| ReportsOnSweep { inner, clock, deadlines: Arc::default(), sweeps: watch::Sender::new(0) };
    /// Reports the deletes of a transaction after its sets, even if the transaction deletes a key and then sets it.
    deletes_of_a_transaction_come_last: "W-2"
        ["watch_paths/deleted_and_set_in_a_transaction"]
        |inner, _clock| DeletesLast { inner, added: watch::Sender::new(Vec::new()) };
    /// Does not report removals to a watcher with `keys_only`, because the store reads the entry of each key that it
    /// reports.
    keys_only_omits_removals: "W-1"
        ["watch_targets/keys_only_has_no_entries"]
        |inner, _clock| KeysOnlyOfSets { inner };
    /// Reports a change to the first watcher of a key only.
    second_watcher_of_a_key_hears_nothing: "W-1"
        ["watch_paths/two_watchers_of_one_key"]
        |inner, _clock| OneWatcher { inner, watched: Hidden::default() };
}

#[derive(Debug)]
struct LateRegistration {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for LateRegistration {
    delegate_store!(self.inner, except watch);

    async fn watch(&self, query: &WatchQuery) -> Result<WatchStream> {
        if query.initial != Initial::Snapshot {
            return self.inner.watch(query).await;
        }
        let mut snapshot = Vec::new();
        match &query.target {
            WatchTarget::Key(key) => {
                let found = self.inner.get(key).await?;
                snapshot.extend(found.map(|entry| (key.clone(), Some(entry))));
            }
            target => {
                let items = scan::list_all(&*self.inner, &target.prefix(), query.report != Report::Entries).await?;
                snapshot.extend(items.into_iter().map(|item| (item.key, item.entry)));
            }
        }
        let sets = snapshot.into_iter().map(|(key, entry)| WatchEvent::Set { key, entry });
        let events: Vec<Result<WatchEvent>> = sets.chain([WatchEvent::SnapshotEnd]).map(Ok).collect();
        // Other tasks write in between, as in the time of a round trip.
        for _ in 0..64 {
            tokio::task::yield_now().await;
        }
        let mut bare = query.clone();
        bare.initial = Initial::None;
        Ok(Box::pin(stream::iter(events).chain(self.inner.watch(&bare).await?)))
    }
}

/// The keys that were deleted, and if a sweep ran before the watcher read the removal.
type Unread = Arc<Hidden<HashMap<Key, bool>>>;

#[derive(Debug)]
struct SweptRemovals {
    inner: Arc<dyn KvStore>,
    unread: Unread,
}

#[async_trait]
impl KvStore for SweptRemovals {
    delegate_store!(self.inner, except set set_many delete delete_many sweep watch);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        self.unread.lock().remove(key);
        self.inner.set(key, value, options).await
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
        self.unread.lock().insert(key.clone(), false);
        self.inner.delete(key, options).await
    }

    async fn sweep(&self) -> Result<u64> {
        self.unread.lock().values_mut().for_each(|is_swept| *is_swept = true);
        self.inner.sweep().await
    }

    async fn watch(&self, query: &WatchQuery) -> Result<WatchStream> {
        let unread = Arc::clone(&self.unread);
        let events = self.inner.watch(query).await?;
        Ok(Box::pin(events.filter(move |event| {
            let is_lost = match event {
                Ok(WatchEvent::Removed { key }) => unread.lock().get(key).copied().unwrap_or(false),
                _ => false,
            };
            std::future::ready(!is_lost)
        })))
    }
}

#[derive(Debug)]
struct ReportsOnSweep {
    inner: Arc<dyn KvStore>,
    clock: Arc<dyn Clock>,
    deadlines: Arc<Hidden<HashMap<Key, SystemTime>>>,
    /// The number of calls of `sweep`.
    sweeps: watch::Sender<u64>,
}

#[async_trait]
impl KvStore for ReportsOnSweep {
    delegate_store!(self.inner, except set set_many delete delete_many sweep watch);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        let deadline = match options.expiry {
            Expiry::After(ttl) if ttl > Duration::ZERO => self.clock.now().checked_add(ttl),
            _ => None,
        };
        self.deadlines.lock().remove(key);
        self.deadlines.lock().extend(deadline.map(|deadline| (key.clone(), deadline)));
        self.inner.set(key, value, options).await
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
        self.deadlines.lock().remove(key);
        self.inner.delete(key, options).await
    }

    async fn sweep(&self) -> Result<u64> {
        self.sweeps.send_modify(|sweeps| *sweeps += 1);
        self.inner.sweep().await
    }

    async fn watch(&self, query: &WatchQuery) -> Result<WatchStream> {
        let (deadlines, clock) = (Arc::clone(&self.deadlines), Arc::clone(&self.clock));
        let sweeps = self.sweeps.subscribe();
        let events = self.inner.watch(query).await?;
        Ok(Box::pin(events.then(move |event| {
            let has_expired = match &event {
                Ok(WatchEvent::Removed { key }) => {
                    deadlines.lock().remove(key).is_some_and(|deadline| deadline <= clock.now())
                }
                _ => false,
            };
            let mut sweeps = sweeps.clone();
            async move {
                if has_expired {
                    // Fails only if the store was dropped.
                    let _ = sweeps.wait_for(|sweeps| *sweeps > 0).await;
                }
                event
            }
        })))
    }
}

#[derive(Debug)]
struct DeletesLast {
    inner: Arc<dyn KvStore>,
    /// The keys that transactions deleted and then set.
    added: watch::Sender<Vec<Key>>,
}

#[async_trait]
impl KvStore for DeletesLast {
    delegate_store!(self.inner, except commit watch);

    async fn commit(&self, transaction: &Transaction) -> Result<CommitOutcome> {
        let outcome = self.inner.commit(transaction).await?;
        let sets: HashSet<&Key> =
            transaction.mutations.iter().filter(|one| matches!(one, Mutation::Set { .. })).map(Mutation::key).collect();
        let deleted =
            transaction.mutations.iter().filter(|one| matches!(one, Mutation::Delete { .. })).map(Mutation::key);
        let both: Vec<Key> = deleted.filter(|key| sets.contains(key)).cloned().collect();
        if outcome.is_committed() && !both.is_empty() {
            self.added.send_modify(|added| added.extend(both));
        }
        Ok(outcome)
    }

    async fn watch(&self, query: &WatchQuery) -> Result<WatchStream> {
        let added = self.added.subscribe();
        let events = self.inner.watch(query).await?;
        let mut reported = added.borrow().len();
        Ok(Box::pin(events.flat_map(move |event| {
            let removed: Vec<Key> = match &event {
                Ok(WatchEvent::Set { key, .. }) if added.borrow().iter().skip(reported).any(|added| added == key) => {
                    reported = added.borrow().len();
                    vec![key.clone()]
                }
                _ => Vec::new(),
            };
            stream::iter([event].into_iter().chain(removed.into_iter().map(|key| Ok(WatchEvent::Removed { key }))))
        })))
    }
}

#[derive(Debug)]
struct KeysOnlyOfSets {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for KeysOnlyOfSets {
    delegate_store!(self.inner, except watch);

    async fn watch(&self, query: &WatchQuery) -> Result<WatchStream> {
        let keys_only = query.report == Report::Keys;
        let events = self.inner.watch(query).await?;
        Ok(Box::pin(
            events.filter(move |event| {
                std::future::ready(!keys_only || !matches!(event, Ok(WatchEvent::Removed { .. })))
            }),
        ))
    }
}

#[derive(Debug)]
struct OneWatcher {
    inner: Arc<dyn KvStore>,
    /// The first live watcher of each key.
    watched: Hidden<HashMap<Key, Weak<()>>>,
}

#[async_trait]
impl KvStore for OneWatcher {
    delegate_store!(self.inner, except watch);

    async fn watch(&self, query: &WatchQuery) -> Result<WatchStream> {
        let events = self.inner.watch(query).await?;
        let WatchTarget::Key(key) = &query.target else { return Ok(events) };
        let first = Arc::new(());
        let is_second = {
            let mut watched = self.watched.lock();
            let is_second = watched.get(key).is_some_and(|first| first.strong_count() > 0);
            if !is_second {
                watched.insert(key.clone(), Arc::downgrade(&first));
            }
            is_second
        };
        Ok(Box::pin(events.filter(move |event| {
            // The stream of the first watcher keeps the registration.
            let _first = &first;
            let is_change = matches!(event, Ok(WatchEvent::Set { .. } | WatchEvent::Removed { .. }));
            std::future::ready(!is_second || !is_change)
        })))
    }
}
