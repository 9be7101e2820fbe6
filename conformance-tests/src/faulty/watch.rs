//! Watches that start late, and reports that are missing, repeated, wrong or outside the target.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use kv_core::{
    CommitOutcome, DeleteOptions, DeleteOutcome, Error, IncrementOptions, Key, KeyPrefix, KvStore, NewExpiry, Report,
    Result, SetItem, SetOptions, SetOutcome, Transaction, Version, WatchEvent, WatchQuery, WatchStream, WatchTarget,
    When, delegate_store,
};

use super::faults;
use super::hidden::Hidden;

faults! { watch:
    /// Registers the watch at the first read of the stream.
    registers_late: "W-1"
        ["watch/live_when_the_call_returns", "watch/set_is_reported", "watch/tells_nothing_from_before",
         "watch_loss/dropped_watch_leaves_the_others", "watch_targets/empty_prefix_covers_all"]
        |inner, _clock| RegistersLate { inner };
    /// Reports sets, but no deletes.
    deletes_are_not_reported: "W-1"
        ["watch_snapshot/goes_on_with_changes", "shared/changes_are_heard", "watch/clear_is_reported",
         "watch/conditional_delete_is_reported", "watch/delete_is_reported", "watch/delete_many_is_reported",
         "watch/expiry_is_reported", "watch_loss/long_keys_are_reported", "watch_targets/two_watchers_hear_both"]
        |inner, _clock| Filtered::new(inner, |event, _| !matches!(event, WatchEvent::Removed { .. }));
    /// Does not report conditional writes, as openkeyv's Redis store did not.
    conditional_sets_are_not_reported: "W-1"
        ["watch/conditional_set_is_reported"]
        |inner, _clock| UnreportedWrites::new(inner, Unreported::Conditions);
    /// Does not report the writes of a batch.
    batches_are_not_reported: "W-1"
        ["watch/set_many_is_reported", "watch_snapshot/longer_than_a_page", "watch_snapshot/writes_during_it_are_told"]
        |inner, _clock| UnreportedWrites::new(inner, Unreported::Batches);
    /// Does not report the sets of a transaction.
    transactions_are_not_reported: "W-1"
        ["watch/commit_is_reported"]
        |inner, _clock| UnreportedWrites::new(inner, Unreported::Transactions);
    /// Does not report increments.
    increments_are_not_reported: "W-1"
        ["watch/increment_is_reported"]
        |inner, _clock| UnreportedWrites::new(inner, Unreported::Increments);
    /// Does not report a moved deadline.
    touches_are_not_reported: "W-1"
        ["watch/touch_is_reported"]
        |inner, _clock| UnreportedWrites::new(inner, Unreported::Touches);
    /// Does not report a write that did not change the value.
    same_values_are_not_reported: "W-1"
        ["watch/same_value_is_reported"]
        |inner, _clock| UnreportedWrites::new(inner, Unreported::SameValues);
    /// Drops reports that do not fit into a notification of 8,000 bytes.
    large_values_are_not_reported: "W-4"
        ["watch_loss/mebibyte_values_are_reported"]
        |inner, _clock| Filtered::new(inner, |event, _| {
            !matches!(event, WatchEvent::Set { entry: Some(entry), .. } if entry.value.len() >= 8_000)
        });
    /// Drops changes for a slow watcher, and reports no gap.
    loss_is_silent: "W-3"
        ["watch_loss/slow_watcher_is_told_of_its_loss"]
        |inner, _clock| Filtered::new(inner, |event, _| !matches!(event, WatchEvent::Gap { .. }));
    /// Reports the end of a snapshot only if the snapshot had an entry.
    an_empty_snapshot_has_no_end: "W-1"
        ["watch_snapshot/of_nothing_just_ends", "watch_snapshot/of_one_key"]
        |inner, _clock| Filtered::new(inner, |event, seen| !matches!(event, WatchEvent::SnapshotEnd) || seen > 0);
    /// Reports the end of a snapshot without its entries.
    snapshot_is_empty: "W-1"
        ["watch_snapshot/of_keys_only"]
        |inner, _clock| EmptySnapshot { inner };
    /// Reports the descendants of a key to a watcher of the key alone.
    watch_of_a_key_covers_descendants: "W-1"
        ["watch_targets/key_is_watched_alone"]
        |inner, _clock| WiderTarget { inner, widen: |target| WatchTarget::Prefix(target.prefix()) };
    /// Reports every key to the watcher of a prefix.
    watch_of_a_prefix_covers_everything: "W-1"
        ["watch_snapshot/of_nothing_just_ends", "watch_snapshot/tells_what_is_there",
         "watch_targets/nested_prefixes_hear_their_own", "watch_targets/prefix_covers_whole_segments",
         "watch_targets/segments_of_any_text"]
        |inner, _clock| WiderTarget { inner, widen: |target| match target {
            WatchTarget::Prefix(_) => WatchTarget::Prefix(KeyPrefix::ALL),
            other => other,
        } };
    /// Reports entries although the watcher asked for keys only.
    keys_only_is_ignored: "W-1"
        ["watch_snapshot/of_keys_only", "watch_targets/keys_only_has_no_entries"]
        |inner, _clock| WithEntries { inner };
    /// Repeats the previous report after each report, as a redelivery does.
    reports_are_repeated: "W-2"
        ["watch/failed_increment_is_not_reported", "watch/never_back_in_time", "watch/reads_are_not_reported",
         "watch/refused_commit_is_not_reported", "watch/zero_ttl_is_no_entry", "watch_snapshot/never_back_in_time"]
        |inner, _clock| RepeatedReports { inner };
    /// Never frees the resources of a dropped watch, so the store fails after 200 watches.
    dropped_watches_leak: "P-2"
        ["watch_loss/dropped_watches_cost_nothing"]
        |inner, _clock| Leaking { inner, remaining: AtomicUsize::new(200) };
    /// Reports another version than `get` returns.
    versions_differ_from_get: "W-2"
        ["watch/event_is_what_get_shows"]
        |inner, _clock| Mapped { inner, map: |event| match event {
            WatchEvent::Set { key, entry } => {
                WatchEvent::Set { key, entry: entry.map(|entry| entry.with_version(Version::random())) }
            }
            other => other,
        } };
}

#[derive(Debug)]
struct RegistersLate {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for RegistersLate {
    delegate_store!(self.inner, except watch);

    async fn watch(&self, query: &WatchQuery) -> Result<WatchStream> {
        self.inner.ping().await?;
        let (inner, query) = (Arc::clone(&self.inner), query.clone());
        let watching = async move {
            match inner.watch(&query).await {
                Ok(events) => events,
                Err(error) => Box::pin(stream::iter([Err(error)])) as WatchStream,
            }
        };
        Ok(Box::pin(stream::once(watching).flatten()))
    }
}

/// Drops the reports for which `is_kept` returns false. Its second argument is the number of sets before the event.
pub(super) struct Filtered {
    inner: Arc<dyn KvStore>,
    is_kept: fn(&WatchEvent, usize) -> bool,
}

impl Filtered {
    pub(super) fn new(inner: Arc<dyn KvStore>, is_kept: fn(&WatchEvent, usize) -> bool) -> Self {
        Self { inner, is_kept }
    }
}

impl fmt::Debug for Filtered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Filtered").finish_non_exhaustive()
    }
}

#[async_trait]
impl KvStore for Filtered {
    delegate_store!(self.inner, except watch);

    async fn watch(&self, query: &WatchQuery) -> Result<WatchStream> {
        let (is_kept, mut seen) = (self.is_kept, 0);
        let events = self.inner.watch(query).await?;
        Ok(Box::pin(events.filter(move |event| {
            let keeps = event.as_ref().map_or(true, |event| is_kept(event, seen));
            seen += usize::from(matches!(event, Ok(WatchEvent::Set { .. })));
            std::future::ready(keeps)
        })))
    }
}

/// The operation whose writes are not reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unreported {
    Conditions,
    Batches,
    Transactions,
    Increments,
    Touches,
    SameValues,
}

/// Drops the reports of keys whose last write came from one operation.
#[derive(Debug)]
struct UnreportedWrites {
    inner: Arc<dyn KvStore>,
    unreported: Unreported,
    keys: Arc<Hidden<HashSet<Key>>>,
}

impl UnreportedWrites {
    fn new(inner: Arc<dyn KvStore>, unreported: Unreported) -> Self {
        Self { inner, unreported, keys: Arc::default() }
    }

    /// Records if the next write of the key must not be reported. A write calls this first.
    fn before_write(&self, operation: Option<Unreported>, key: &Key) {
        let mut keys = self.keys.lock();
        if operation == Some(self.unreported) {
            keys.insert(key.clone());
        } else {
            keys.remove(key);
        }
    }
}

#[async_trait]
impl KvStore for UnreportedWrites {
    delegate_store!(self.inner, except set set_many delete touch increment commit watch);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        let operation = if options.when != When::Always {
            Some(Unreported::Conditions)
        } else if self.unreported == Unreported::SameValues
            && self.inner.get(key).await?.is_some_and(|old| old.value == value)
        {
            Some(Unreported::SameValues)
        } else {
            None
        };
        self.before_write(operation, key);
        self.inner.set(key, value, options).await
    }

    async fn set_many(&self, items: &[SetItem]) -> Vec<Result<SetOutcome>> {
        for item in items {
            self.before_write(Some(Unreported::Batches), &item.key);
        }
        self.inner.set_many(items).await
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
        self.before_write(None, key);
        self.inner.delete(key, options).await
    }

    async fn touch(&self, key: &Key, expiry: NewExpiry) -> Result<bool> {
        self.before_write(Some(Unreported::Touches), key);
        self.inner.touch(key, expiry).await
    }

    async fn increment(&self, key: &Key, by: i64, options: &IncrementOptions) -> Result<i64> {
        self.before_write(Some(Unreported::Increments), key);
        self.inner.increment(key, by, options).await
    }

    async fn commit(&self, transaction: &Transaction) -> Result<CommitOutcome> {
        for mutation in &transaction.mutations {
            self.before_write(Some(Unreported::Transactions), mutation.key());
        }
        self.inner.commit(transaction).await
    }

    async fn watch(&self, query: &WatchQuery) -> Result<WatchStream> {
        let keys = Arc::clone(&self.keys);
        let events = self.inner.watch(query).await?;
        Ok(Box::pin(events.filter(move |event| {
            let keys = keys.lock();
            std::future::ready(!matches!(event, Ok(WatchEvent::Set { key, .. }) if keys.contains(key)))
        })))
    }
}

#[derive(Debug)]
struct EmptySnapshot {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for EmptySnapshot {
    delegate_store!(self.inner, except watch);

    async fn watch(&self, query: &WatchQuery) -> Result<WatchStream> {
        if query.initial != kv_core::Initial::Snapshot {
            return self.inner.watch(query).await;
        }
        let mut bare = query.clone();
        bare.initial = kv_core::Initial::None;
        let events = self.inner.watch(&bare).await?;
        Ok(Box::pin(stream::iter([Ok(WatchEvent::SnapshotEnd)]).chain(events)))
    }
}

/// Watches the wider target that `widen` returns.
pub(super) struct WiderTarget {
    pub(super) inner: Arc<dyn KvStore>,
    pub(super) widen: fn(WatchTarget) -> WatchTarget,
}

impl fmt::Debug for WiderTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WiderTarget").finish_non_exhaustive()
    }
}

#[async_trait]
impl KvStore for WiderTarget {
    delegate_store!(self.inner, except watch);

    async fn watch(&self, query: &WatchQuery) -> Result<WatchStream> {
        let mut wider = query.clone();
        wider.target = (self.widen)(wider.target);
        self.inner.watch(&wider).await
    }
}

#[derive(Debug)]
struct WithEntries {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for WithEntries {
    delegate_store!(self.inner, except watch);

    async fn watch(&self, query: &WatchQuery) -> Result<WatchStream> {
        let mut whole = query.clone();
        whole.report = Report::Entries;
        self.inner.watch(&whole).await
    }
}

/// Changes the reports of a watcher.
struct Mapped {
    inner: Arc<dyn KvStore>,
    map: fn(WatchEvent) -> WatchEvent,
}

impl fmt::Debug for Mapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mapped").finish_non_exhaustive()
    }
}

#[async_trait]
impl KvStore for Mapped {
    delegate_store!(self.inner, except watch);

    async fn watch(&self, query: &WatchQuery) -> Result<WatchStream> {
        let map = self.map;
        Ok(Box::pin(self.inner.watch(query).await?.map(move |event| event.map(map))))
    }
}

#[derive(Debug)]
struct RepeatedReports {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for RepeatedReports {
    delegate_store!(self.inner, except watch);

    async fn watch(&self, query: &WatchQuery) -> Result<WatchStream> {
        let mut before = None;
        let events = self.inner.watch(query).await?;
        Ok(Box::pin(events.flat_map(move |event| {
            let repeated = match &event {
                Ok(report @ WatchEvent::Set { .. }) => before.replace(report.clone()),
                _ => None,
            };
            stream::iter([Some(event), repeated.map(Ok)].into_iter().flatten())
        })))
    }
}

#[derive(Debug)]
struct Leaking {
    inner: Arc<dyn KvStore>,
    remaining: AtomicUsize,
}

#[async_trait]
impl KvStore for Leaking {
    delegate_store!(self.inner, except watch);

    async fn watch(&self, query: &WatchQuery) -> Result<WatchStream> {
        let remaining =
            self.remaining.fetch_update(Ordering::AcqRel, Ordering::Acquire, |remaining| remaining.checked_sub(1));
        remaining.map_err(|_| Error::capacity("too many watches"))?;
        self.inner.watch(query).await
    }
}
