//! Watches that lose or invent reports only in a combination of calls.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use kv_core::{
    CommitOutcome, DeleteOptions, DeleteOutcome, Expires, Expiry, IncrementOptions, Key, KvStore, Mutation, NewExpiry,
    Result, SetItem, SetOptions, SetOutcome, Transaction, WatchEvent, WatchQuery, WatchStream, When, delegate_store,
};

use super::faults;
use super::hidden::Hidden;

faults! { watch_combined:
    /// Does not report a `touch` of an entry whose last set kept its deadline.
    touch_after_keep_is_unreported: "W-1"
        ["random/watches_of_lives"]
        |inner, _clock| Combined::new(inner, Combination::TouchAfterKeep);
    /// Does not report an `increment` of an entry that has a deadline.
    increment_under_a_deadline_is_unreported: "W-1"
        ["random/watches_of_lives"]
        |inner, _clock| Combined::new(inner, Combination::IncrementUnderDeadline);
    /// Does not report the deletes of a transaction that also has sets.
    delete_beside_a_set_is_unreported: "W-1"
        ["random/watches_of_transactions"]
        |inner, _clock| Combined::new(inner, Combination::DeleteBesideSet);
    /// Does not report the stored writes of a batch in which another write was refused.
    batch_with_a_refusal_is_unreported: "W-1"
        ["random/watches_of_conditions"]
        |inner, _clock| Combined::new(inner, Combination::BatchWithRefusal);
    /// Forgets the unread report of a key if an `increment` of the key then fails.
    failed_increment_drops_the_report: "W-1"
        ["random/watches_of_lives"]
        |inner, _clock| Combined::new(inner, Combination::FailedIncrement);
    /// Forgets the unread report of a key if a set of the key is then refused.
    refused_set_drops_the_report: "W-1"
        ["random/watches_of_conditions"]
        |inner, _clock| Combined::new(inner, Combination::RefusedSet);
    /// Does not report writes with a condition on a version.
    write_under_a_version_is_unreported: "W-1"
        ["random/watches_of_conditions"]
        |inner, _clock| Combined::new(inner, Combination::UnderVersion);
    /// Does not report an entry that a transaction deleted and set again.
    entry_that_is_set_again_is_unreported: "W-1"
        ["random/watches_of_transactions"]
        |inner, _clock| Combined::new(inner, Combination::DeletedAndSetAgain);
    /// Does not report the first change of each entry that the snapshot has shown.
    first_change_after_the_snapshot_is_unreported: "W-1"
        ["random/watches", "random/watches_of_conditions"]
        |inner, _clock| LostAfterSnapshot { inner };
}

/// The combination whose report is lost or false.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Combination {
    TouchAfterKeep,
    IncrementUnderDeadline,
    DeleteBesideSet,
    BatchWithRefusal,
    FailedIncrement,
    RefusedSet,
    UnderVersion,
    DeletedAndSetAgain,
}

/// Drops the reports of a key after the combination, until another kind of write of the key.
struct Combined {
    inner: Arc<dyn KvStore>,
    combination: Combination,
    /// The keys whose last set kept the deadline.
    kept: Hidden<HashSet<Key>>,
    muted: Arc<Hidden<HashSet<Key>>>,
}

impl Combined {
    fn new(inner: Arc<dyn KvStore>, combination: Combination) -> Self {
        Self { inner, combination, kept: Hidden::default(), muted: Arc::default() }
    }

    /// Drops the reports of the key from now on if `is_muted` is true, else reports the key again. Each write calls
    /// this first.
    fn mute(&self, key: &Key, is_muted: bool) {
        if is_muted {
            self.muted.lock().insert(key.clone());
        } else {
            self.muted.lock().remove(key);
        }
    }

    fn is(&self, combination: Combination) -> bool {
        self.combination == combination
    }
}

impl fmt::Debug for Combined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Combined").finish_non_exhaustive()
    }
}

#[async_trait]
impl KvStore for Combined {
    delegate_store!(self.inner, except set delete set_many delete_many touch increment commit watch);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        let was_muted = self.muted.lock().contains(key);
        let is_muted = match self.combination {
            Combination::UnderVersion => matches!(options.when, When::Version(_)),
            _ => false,
        };
        self.mute(key, is_muted);
        let outcome = self.inner.set(key, value, options).await?;
        if outcome.is_stored() {
            let mut kept = self.kept.lock();
            let _ = if options.expiry == Expiry::Keep { kept.insert(key.clone()) } else { kept.remove(key) };
        } else {
            self.mute(key, was_muted || self.is(Combination::RefusedSet));
        }
        Ok(outcome)
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
        let was_muted = self.muted.lock().contains(key);
        self.mute(key, self.is(Combination::UnderVersion) && matches!(options.when, When::Version(_)));
        let outcome = self.inner.delete(key, options).await?;
        if !outcome.is_deleted() {
            self.mute(key, was_muted);
        }
        Ok(outcome)
    }

    async fn set_many(&self, items: &[SetItem]) -> Vec<Result<SetOutcome>> {
        let mut outcomes = Vec::with_capacity(items.len());
        for SetItem { key, value, options, .. } in items {
            outcomes.push(self.set(key, value.clone(), options).await);
        }
        let is_refused = |outcome: &Result<SetOutcome>| matches!(outcome, Ok(SetOutcome::Refused { .. }));
        if self.is(Combination::BatchWithRefusal) && outcomes.iter().any(is_refused) {
            for (item, _) in items.iter().zip(&outcomes).filter(|(_, outcome)| !is_refused(outcome)) {
                self.mute(&item.key, true);
            }
        }
        outcomes
    }

    async fn touch(&self, key: &Key, expiry: NewExpiry) -> Result<bool> {
        let is_muted = match self.combination {
            Combination::TouchAfterKeep => self.kept.lock().contains(key),
            _ => self.muted.lock().contains(key),
        };
        self.mute(key, is_muted);
        self.inner.touch(key, expiry).await
    }

    async fn increment(&self, key: &Key, by: i64, options: &IncrementOptions) -> Result<i64> {
        let was_muted = self.muted.lock().contains(key);
        let has_deadline = self.inner.get(key).await?.is_some_and(|entry| entry.expires != Expires::Never);
        self.mute(key, self.is(Combination::IncrementUnderDeadline) && has_deadline);
        let result = self.inner.increment(key, by, options).await;
        if result.is_err() {
            self.mute(key, was_muted || self.is(Combination::FailedIncrement));
        }
        result
    }

    async fn commit(&self, transaction: &Transaction) -> Result<CommitOutcome> {
        let mutations = &transaction.mutations;
        let has_set = mutations.iter().any(|mutation| matches!(mutation, Mutation::Set { .. }));
        let before = self.muted.lock().clone();
        let mut deleted = HashSet::new();
        for mutation in mutations {
            let key = mutation.key();
            let is_delete = matches!(mutation, Mutation::Delete { .. });
            self.mute(
                key,
                self.is(Combination::DeleteBesideSet) && is_delete && has_set
                    || self.is(Combination::DeletedAndSetAgain) && deleted.contains(key),
            );
            if is_delete {
                deleted.insert(key.clone());
            }
        }
        let outcome = self.inner.commit(transaction).await?;
        if !outcome.is_committed() {
            *self.muted.lock() = before;
        }
        Ok(outcome)
    }

    async fn watch(&self, query: &WatchQuery) -> Result<WatchStream> {
        let muted = Arc::clone(&self.muted);
        let events = self.inner.watch(query).await?;
        Ok(Box::pin(events.filter(move |event| {
            let is_muted = match event {
                Ok(WatchEvent::Set { key, .. } | WatchEvent::Removed { key }) => muted.lock().contains(key),
                _ => false,
            };
            std::future::ready(!is_muted)
        })))
    }
}

/// Drops the first report of each key that the snapshot has shown.
#[derive(Debug)]
struct LostAfterSnapshot {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for LostAfterSnapshot {
    delegate_store!(self.inner, except watch);

    async fn watch(&self, query: &WatchQuery) -> Result<WatchStream> {
        let (mut shown, mut has_ended) = (HashSet::new(), false);
        let events = self.inner.watch(query).await?;
        Ok(Box::pin(events.filter(move |event| {
            let is_lost = match event {
                Ok(WatchEvent::Set { key, .. }) if !has_ended => {
                    shown.insert(key.clone());
                    false
                }
                Ok(WatchEvent::Set { key, .. } | WatchEvent::Removed { key }) => has_ended && shown.remove(key),
                Ok(WatchEvent::SnapshotEnd) => {
                    has_ended = true;
                    false
                }
                _ => false,
            };
            std::future::ready(!is_lost)
        })))
    }
}
