//! Watchers that hear too late, too little, or of what never happened.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use kv_core::{
    CommitOutcome, DeleteOptions, DeleteOutcome, IncrementOptions, Key, KeyPrefix, KvStore, NewExpiry, Result, SetItem,
    SetOptions, SetOutcome, Transaction, Version, WatchEvent, WatchQuery, WatchStream, WatchTarget, When,
    delegate_store,
};

use super::faults;
use super::kept::Kept;

faults! { watch:
    registers_late: "W-1" "begins to watch when the stream is first read" []
        |inner, _clock| Late { inner };
    deletes_are_not_told: "W-1" "reports writes only" []
        |inner, _clock| Filtered::new(inner, |event, _| !matches!(event, WatchEvent::Removed { .. }));
    conditional_sets_are_not_told: "W-1" "does not report writes under a condition, as openkeyv's Redis store did not" []
        |inner, _clock| Muted::new(inner, Mute::Conditions);
    batches_are_not_told: "W-1" "does not report writes of a batch" []
        |inner, _clock| Muted::new(inner, Mute::Batches);
    transactions_are_not_told: "W-1" "does not report the sets of a transaction" []
        |inner, _clock| Muted::new(inner, Mute::Transactions);
    increments_are_not_told: "W-1" "does not report increments" []
        |inner, _clock| Muted::new(inner, Mute::Increments);
    touches_are_not_told: "W-1" "does not report a moved deadline" []
        |inner, _clock| Muted::new(inner, Mute::Touches);
    same_values_are_not_told: "W-1" "does not report a write that left the value as it was" []
        |inner, _clock| Muted::new(inner, Mute::SameValues);
    large_values_are_not_told: "W-4" "loses what does not fit into a notification of 8,000 bytes" []
        |inner, _clock| Filtered::new(inner, |event, _| {
            !matches!(event, WatchEvent::Set { entry: Some(entry), .. } if entry.value.len() >= 8_000)
        });
    loss_is_silent: "W-3" "drops changes for a slow watcher and does not say so" []
        |inner, _clock| Filtered::new(inner, |event, _| !matches!(event, WatchEvent::Gap { .. }));
    an_empty_snapshot_has_no_end: "W-1" "tells the end of a snapshot only where there was an entry" []
        |inner, _clock| Filtered::new(inner, |event, seen| !matches!(event, WatchEvent::SnapshotEnd) || seen > 0);
    snapshot_is_left_out: "W-1" "gives the end of a snapshot and nothing before it" []
        |inner, _clock| NoSnapshot { inner };
    a_key_brings_its_children: "W-1" "watching one key reports its descendants too" []
        |inner, _clock| Wide { inner, widen: |target| WatchTarget::Prefix(target.prefix()) };
    a_prefix_brings_its_neighbours: "W-1" "watching a prefix reports every key" []
        |inner, _clock| Wide { inner, widen: |target| match target {
            WatchTarget::Prefix(_) => WatchTarget::Prefix(KeyPrefix::ALL),
            other => other,
        } };
    keys_only_is_ignored: "W-1" "brings the entries although only keys were asked for" []
        |inner, _clock| WithEntries { inner };
    reports_overtake_each_other: "W-2" "tells what waits from its end, so that a key goes back in time" []
        |inner, _clock| Overtaking { inner };
    versions_are_its_own: "W-2" "reports another version than `get` shows" []
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
        items.iter().for_each(|item| self.comes_by(Some(Mute::Batches), &item.key));
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
        transaction.mutations.iter().for_each(|mutation| self.comes_by(Some(Mute::Transactions), mutation.key()));
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
struct Overtaking {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for Overtaking {
    delegate_store!(self.inner, except watch);

    async fn watch(&self, query: &WatchQuery) -> Result<WatchStream> {
        let events = self.inner.watch(query).await?.ready_chunks(8);
        Ok(Box::pin(events.flat_map(|chunk| stream::iter(chunk.into_iter().rev()))))
    }
}
