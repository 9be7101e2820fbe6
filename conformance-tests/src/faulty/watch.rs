//! Watchers that hear too late, too little, or of what never happened.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use kv_core::{
    CommitOutcome, DeleteOptions, DeleteOutcome, Error, IncrementOptions, Key, KeyPrefix, KvStore, NewExpiry, Result,
    SetItem, SetOptions, SetOutcome, Transaction, Version, WatchEvent, WatchQuery, WatchStream, WatchTarget, When,
    delegate_store,
};

use super::faults;
use super::kept::Kept;

faults! { watch:
    registers_late: "W-1" "begins to watch when the stream is first read"
        ["watch/live_when_the_call_returns", "watch/set_is_reported", "watch/tells_nothing_from_before",
         "watch_loss/dropped_watch_leaves_the_others", "watch_targets/empty_prefix_covers_all"]
        |inner, _clock| Late { inner };
    deletes_are_not_told: "W-1" "reports writes only"
        ["watch_snapshot/goes_on_with_changes", "shared/changes_are_heard", "watch/clear_is_reported",
         "watch/conditional_delete_is_reported", "watch/delete_is_reported", "watch/delete_many_is_reported",
         "watch/expiry_is_reported", "watch_loss/long_keys_are_reported", "watch_targets/two_watchers_hear_both"]
        |inner, _clock| Filtered::new(inner, |event, _| !matches!(event, WatchEvent::Removed { .. }));
    conditional_sets_are_not_told: "W-1" "does not report writes under a condition, as openkeyv's Redis store did not"
        ["watch/conditional_set_is_reported"]
        |inner, _clock| Muted::new(inner, Mute::Conditions);
    batches_are_not_told: "W-1" "does not report writes of a batch"
        ["watch/set_many_is_reported", "watch_snapshot/longer_than_a_page", "watch_snapshot/writes_during_it_are_told"]
        |inner, _clock| Muted::new(inner, Mute::Batches);
    transactions_are_not_told: "W-1" "does not report the sets of a transaction"
        ["watch/commit_is_reported"]
        |inner, _clock| Muted::new(inner, Mute::Transactions);
    increments_are_not_told: "W-1" "does not report increments"
        ["watch/increment_is_reported"]
        |inner, _clock| Muted::new(inner, Mute::Increments);
    touches_are_not_told: "W-1" "does not report a moved deadline"
        ["watch/touch_is_reported"]
        |inner, _clock| Muted::new(inner, Mute::Touches);
    same_values_are_not_told: "W-1" "does not report a write that left the value as it was"
        ["watch/same_value_is_reported"]
        |inner, _clock| Muted::new(inner, Mute::SameValues);
    large_values_are_not_told: "W-4" "loses what does not fit into a notification of 8,000 bytes"
        ["watch_loss/mebibyte_values_are_reported"]
        |inner, _clock| Filtered::new(inner, |event, _| {
            !matches!(event, WatchEvent::Set { entry: Some(entry), .. } if entry.value.len() >= 8_000)
        });
    loss_is_silent: "W-3" "drops changes for a slow watcher and does not say so"
        ["watch_loss/slow_watcher_is_told_of_its_loss"]
        |inner, _clock| Filtered::new(inner, |event, _| !matches!(event, WatchEvent::Gap { .. }));
    an_empty_snapshot_has_no_end: "W-1" "tells the end of a snapshot only where there was an entry"
        ["watch_snapshot/of_nothing_just_ends", "watch_snapshot/of_one_key"]
        |inner, _clock| Filtered::new(inner, |event, seen| !matches!(event, WatchEvent::SnapshotEnd) || seen > 0);
    snapshot_is_left_out: "W-1" "gives the end of a snapshot and nothing before it"
        ["watch_snapshot/of_keys_only"]
        |inner, _clock| NoSnapshot { inner };
    a_key_brings_its_children: "W-1" "watching one key reports its descendants too"
        ["watch_targets/key_is_watched_alone"]
        |inner, _clock| Wide { inner, widen: |target| WatchTarget::Prefix(target.prefix()) };
    a_prefix_brings_its_neighbours: "W-1" "watching a prefix reports every key"
        ["watch_snapshot/of_nothing_just_ends", "watch_snapshot/tells_what_is_there",
         "watch_targets/nested_prefixes_hear_their_own", "watch_targets/prefix_covers_whole_segments",
         "watch_targets/segments_of_any_text"]
        |inner, _clock| Wide { inner, widen: |target| match target {
            WatchTarget::Prefix(_) => WatchTarget::Prefix(KeyPrefix::ALL),
            other => other,
        } };
    keys_only_is_ignored: "W-1" "brings the entries although only keys were asked for"
        ["watch_snapshot/of_keys_only", "watch_targets/keys_only_has_no_entries"]
        |inner, _clock| WithEntries { inner };
    reports_come_again: "W-2" "tells the report before once more behind each report, as a redelivery does"
        ["watch/failed_increment_is_not_reported", "watch/never_back_in_time", "watch/reads_are_not_reported",
         "watch/refused_commit_is_not_reported", "watch/zero_ttl_is_no_entry", "watch_snapshot/never_back_in_time"]
        |inner, _clock| Redelivering { inner };
    dropped_watches_stay: "P-2" "keeps what a watch holds when its stream is dropped, until nothing is left"
        ["watch_loss/dropped_watches_cost_nothing"]
        |inner, _clock| Leaking { inner, left: AtomicUsize::new(200) };
    versions_are_its_own: "W-2" "reports another version than `get` shows"
        ["watch/event_is_what_get_shows"]
        |inner, _clock| Mapped { inner, map: |event| match event {
            WatchEvent::Set { key, entry } => {
                WatchEvent::Set { key, entry: entry.map(|entry| entry.with_version(Version::random())) }
            }
            other => other,
        } };
}

#[derive(Debug)]
struct Late {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for Late {
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

/// Leaves out what a watcher should hear; it is told how many sets the watcher has heard.
struct Filtered {
    inner: Arc<dyn KvStore>,
    is_kept: fn(&WatchEvent, usize) -> bool,
}

impl Filtered {
    fn new(inner: Arc<dyn KvStore>, is_kept: fn(&WatchEvent, usize) -> bool) -> Self {
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

/// The path whose writes are not reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mute {
    Conditions,
    Batches,
    Transactions,
    Increments,
    Touches,
    SameValues,
}

/// Leaves out the reports of what was last written by one path.
#[derive(Debug)]
struct Muted {
    inner: Arc<dyn KvStore>,
    mute: Mute,
    keys: Arc<Kept<HashSet<Key>>>,
}

impl Muted {
    fn new(inner: Arc<dyn KvStore>, mute: Mute) -> Self {
        Self { inner, mute, keys: Arc::default() }
    }

    /// Before a write of this path, so that its report finds the key muted.
    fn comes_by(&self, path: Option<Mute>, key: &Key) {
        let mut keys = self.keys.lock();
        if path == Some(self.mute) {
            keys.insert(key.clone());
        } else {
            keys.remove(key);
        }
    }
}

#[async_trait]
impl KvStore for Muted {
    delegate_store!(self.inner, except set set_many delete touch increment commit watch);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        let path = if options.when != When::Always {
            Some(Mute::Conditions)
        } else if self.mute == Mute::SameValues && self.inner.get(key).await?.is_some_and(|old| old.value == value) {
            Some(Mute::SameValues)
        } else {
            None
        };
        self.comes_by(path, key);
        self.inner.set(key, value, options).await
    }

    async fn set_many(&self, items: &[SetItem]) -> Vec<Result<SetOutcome>> {
        for item in items {
            self.comes_by(Some(Mute::Batches), &item.key);
        }
        self.inner.set_many(items).await
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
        self.comes_by(None, key);
        self.inner.delete(key, options).await
    }

    async fn touch(&self, key: &Key, expiry: NewExpiry) -> Result<bool> {
        self.comes_by(Some(Mute::Touches), key);
        self.inner.touch(key, expiry).await
    }

    async fn increment(&self, key: &Key, by: i64, options: &IncrementOptions) -> Result<i64> {
        self.comes_by(Some(Mute::Increments), key);
        self.inner.increment(key, by, options).await
    }

    async fn commit(&self, transaction: &Transaction) -> Result<CommitOutcome> {
        for mutation in &transaction.mutations {
            self.comes_by(Some(Mute::Transactions), mutation.key());
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
struct NoSnapshot {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for NoSnapshot {
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

/// Watches more than was asked.
struct Wide {
    inner: Arc<dyn KvStore>,
    widen: fn(WatchTarget) -> WatchTarget,
}

impl fmt::Debug for Wide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wide").finish_non_exhaustive()
    }
}

#[async_trait]
impl KvStore for Wide {
    delegate_store!(self.inner, except watch);

    async fn watch(&self, query: &WatchQuery) -> Result<WatchStream> {
        let mut wide = query.clone();
        wide.target = (self.widen)(wide.target);
        self.inner.watch(&wide).await
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
        whole.keys_only = false;
        self.inner.watch(&whole).await
    }
}

/// Changes what a watcher hears.
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
struct Redelivering {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for Redelivering {
    delegate_store!(self.inner, except watch);

    async fn watch(&self, query: &WatchQuery) -> Result<WatchStream> {
        let mut before = None;
        let events = self.inner.watch(query).await?;
        Ok(Box::pin(events.flat_map(move |event| {
            let again = match &event {
                Ok(told @ WatchEvent::Set { .. }) => before.replace(told.clone()),
                _ => None,
            };
            stream::iter([Some(event), again.map(Ok)].into_iter().flatten())
        })))
    }
}

#[derive(Debug)]
struct Leaking {
    inner: Arc<dyn KvStore>,
    left: AtomicUsize,
}

#[async_trait]
impl KvStore for Leaking {
    delegate_store!(self.inner, except watch);

    async fn watch(&self, query: &WatchQuery) -> Result<WatchStream> {
        let left = self.left.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1));
        left.map_err(|_| Error::capacity("too many watches"))?;
        self.inner.watch(query).await
    }
}
