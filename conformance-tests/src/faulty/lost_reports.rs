//! Changes that a watch does not report, by the path of the write.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use kv_core::{
    Clock, CommitOutcome, DeleteOptions, DeleteOutcome, Expiry, IncrementOptions, Key, KeyPrefix, KvStore, Mutation,
    NewExpiry, Result, SetOptions, SetOutcome, Transaction, WatchEvent, WatchQuery, WatchStream, WatchTarget, When,
    delegate_store,
};

use super::faults;
use super::hidden::Hidden;

faults! { lost_reports:
    /// Does not report a set with a condition on a version, because such a set uses another statement.
    sets_under_a_version: "W-1"
        ["watch_paths/sets_under_a_version"]
        |inner, clock| LostReports::new(inner, clock, |write| {
            matches!(write.kind, Kind::Set(options) if matches!(options.when, When::Version(_)))
        });
    /// Does not report a set that returns the previous entry, because such a set uses another statement.
    sets_with_previous: "W-1"
        ["watch_paths/sets_with_previous"]
        |inner, clock| LostReports::new(inner, clock, |write| {
            matches!(write.kind, Kind::Set(options) if options.return_previous)
        });
    /// Does not report a delete that returns the previous entry.
    deletes_with_previous: "W-1"
        ["watch_paths/deletes_with_previous"]
        |inner, clock| LostReports::new(inner, clock, |write| {
            matches!(write.kind, Kind::Delete(options) if options.return_previous)
        });
    /// Does not report a delete with a condition on a version.
    deletes_under_a_version: "W-1"
        ["watch_paths/deletes_under_a_version"]
        |inner, clock| LostReports::new(inner, clock, |write| {
            matches!(write.kind, Kind::Delete(options) if matches!(options.when, When::Version(_)))
        });
    /// Does not report a set with `Keep`: a change of the index of deadlines notifies the watchers, and this set does
    /// not change the index.
    sets_that_keep_the_deadline: "W-1"
        ["watch_paths/sets_that_keep_the_deadline"]
        |inner, clock| LostReports::new(inner, clock, |write| {
            matches!(write.kind, Kind::Set(options) if options.expiry == Expiry::Keep)
        });
    /// Does not report a set over an expired entry that was not swept yet.
    sets_over_the_expired: "W-1"
        ["watch_paths/sets_over_the_expired"]
        |inner, clock| LostReports::new(inner, clock, |write| write.over_expired && matches!(write.kind, Kind::Set(_)));
    /// Does not report a counter that starts again after its entry expired.
    increments_over_the_expired: "W-1"
        ["watch_paths/increments_over_the_expired"]
        |inner, clock| LostReports::new(inner, clock, |write| {
            write.over_expired && matches!(write.kind, Kind::Increment { .. })
        });
    /// Does not report an increment by zero, because the value does not change.
    increments_by_zero: "W-1"
        ["watch_paths/increments_by_zero"]
        |inner, clock| LostReports::new(inner, clock, |write| matches!(write.kind, Kind::Increment { by: 0 }));
    /// Removes the entry in a set whose deadline has passed, and does not report the removal.
    sets_in_the_past: "T-3"
        ["watch_paths/sets_in_the_past"]
        |inner, clock| LostReports::new(inner, clock, |write| {
            matches!(write.kind, Kind::Set(options) if is_past(options.expiry, write.now))
        });
    /// Removes the entry in a `touch` to a moment that has passed, and does not report the removal.
    touches_to_the_past: "T-3"
        ["watch_paths/touches_to_the_past"]
        |inner, clock| LostReports::new(inner, clock, |write| {
            matches!(write.kind, Kind::Touch(expiry) if is_past(expiry.into(), write.now))
        });
    /// Does not report a `touch` that makes an entry permanent.
    touches_to_never: "W-1"
        ["watch_paths/touches_to_never"]
        |inner, clock| LostReports::new(inner, clock, |write| matches!(write.kind, Kind::Touch(NewExpiry::Never)));
    /// Does not report to the watcher of a single key that a transaction deletes the key.
    transactions_that_delete_a_watched_key: "W-1"
        ["watch_paths/transactions_on_a_watched_key"]
        |inner, clock| LostReports {
            of_one_key: true,
            ..LostReports::new(inner, clock, |write| {
                matches!(write.kind, Kind::Mutation(Mutation::Delete { .. }))
            })
        };
    /// Does not report the sets of a transaction that also has checks.
    sets_of_checked_transactions: "W-1"
        ["watch_paths/checked_transactions"]
        |inner, clock| LostReports::new(inner, clock, |write| {
            write.is_checked && matches!(write.kind, Kind::Mutation(Mutation::Set { .. }))
        });
    /// Reports the descendants that a `clear` removes, but not the key of the prefix itself.
    own_key_of_a_cleared_prefix: "W-1"
        ["watch_paths/clear_of_the_own_key"]
        |inner, clock| LostReports::new(inner, clock, |write| matches!(write.kind, Kind::Clear { own_key: true }));
}

/// The kind of a write of one key.
enum Kind<'a> {
    Set(&'a SetOptions),
    Delete(&'a DeleteOptions),
    Touch(NewExpiry),
    Increment { by: i64 },
    Mutation(&'a Mutation),
    Clear { own_key: bool },
}

/// A write of one key, before it is applied.
struct Write<'a> {
    kind: Kind<'a>,
    now: SystemTime,
    /// True if the key had an entry that has expired and was not swept.
    over_expired: bool,
    /// True for a mutation of a transaction with checks.
    is_checked: bool,
}

/// True if an entry with this expiry is absent at once.
fn is_past(expiry: Expiry, now: SystemTime) -> bool {
    match expiry {
        Expiry::After(ttl) => ttl == Duration::ZERO,
        Expiry::At(moment) => moment <= now,
        _ => false,
    }
}

/// Drops the reports of a key if `loses` returns true for the last write of the key.
struct LostReports {
    inner: Arc<dyn KvStore>,
    clock: Arc<dyn Clock>,
    loses: fn(&Write<'_>) -> bool,
    /// True if only watchers of a single key lose reports.
    of_one_key: bool,
    lost: Arc<Hidden<HashSet<Key>>>,
    deadlines: Hidden<HashMap<Key, SystemTime>>,
}

impl fmt::Debug for LostReports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LostReports").finish_non_exhaustive()
    }
}

impl LostReports {
    fn new(inner: Arc<dyn KvStore>, clock: Arc<dyn Clock>, loses: fn(&Write<'_>) -> bool) -> Self {
        Self { inner, clock, loses, of_one_key: false, lost: Arc::default(), deadlines: Hidden::default() }
    }

    /// Records if the report of this write is lost. A write calls this before it is applied.
    fn before(&self, key: &Key, kind: Kind<'_>, is_checked: bool) {
        let now = self.clock.now();
        let expiry = match &kind {
            Kind::Set(options) => options.expiry,
            Kind::Touch(expiry) => (*expiry).into(),
            Kind::Mutation(Mutation::Set { expiry, .. }) => *expiry,
            _ => Expiry::Never,
        };
        let deadline = match expiry {
            Expiry::After(ttl) => now.checked_add(ttl),
            Expiry::At(moment) => Some(moment),
            _ => None,
        };
        let old = {
            let mut deadlines = self.deadlines.lock();
            let old = deadlines.remove(key);
            deadlines.extend(deadline.map(|deadline| (key.clone(), deadline)));
            old
        };
        let over_expired = old.is_some_and(|old| old <= now);
        if (self.loses)(&Write { kind, now, over_expired, is_checked }) {
            self.lost.lock().insert(key.clone());
        } else {
            self.lost.lock().remove(key);
        }
    }
}

#[async_trait]
impl KvStore for LostReports {
    delegate_store!(self.inner, except set set_many delete delete_many clear touch increment commit sweep watch);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        self.before(key, Kind::Set(options), false);
        self.inner.set(key, value, options).await
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
        self.before(key, Kind::Delete(options), false);
        self.inner.delete(key, options).await
    }

    async fn clear(&self, prefix: &KeyPrefix) -> Result<u64> {
        if let (Some(own), None) = (prefix.to_key(), prefix.excluded_key()) {
            self.before(&own, Kind::Clear { own_key: true }, false);
        }
        self.inner.clear(prefix).await
    }

    async fn touch(&self, key: &Key, expiry: NewExpiry) -> Result<bool> {
        self.before(key, Kind::Touch(expiry), false);
        self.inner.touch(key, expiry).await
    }

    async fn increment(&self, key: &Key, by: i64, options: &IncrementOptions) -> Result<i64> {
        self.before(key, Kind::Increment { by }, false);
        self.inner.increment(key, by, options).await
    }

    async fn commit(&self, transaction: &Transaction) -> Result<CommitOutcome> {
        for mutation in &transaction.mutations {
            self.before(mutation.key(), Kind::Mutation(mutation), !transaction.checks.is_empty());
        }
        self.inner.commit(transaction).await
    }

    async fn sweep(&self) -> Result<u64> {
        let now = self.clock.now();
        self.deadlines.lock().retain(|_, deadline| *deadline > now);
        self.inner.sweep().await
    }

    async fn watch(&self, query: &WatchQuery) -> Result<WatchStream> {
        let events = self.inner.watch(query).await?;
        if self.of_one_key && !matches!(query.target, WatchTarget::Key(_)) {
            return Ok(events);
        }
        let lost = Arc::clone(&self.lost);
        Ok(Box::pin(events.filter(move |event| {
            let is_lost = match event {
                Ok(WatchEvent::Set { key, .. } | WatchEvent::Removed { key }) => lost.lock().contains(key),
                _ => false,
            };
            std::future::ready(!is_lost)
        })))
    }
}
