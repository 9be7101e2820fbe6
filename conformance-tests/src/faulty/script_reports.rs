//! Watches whose errors only a model of all reports shows: losses behind a gap, and false reports beside other handles.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, stream};
use kv_core::{
    GapReason, Key, KeyPrefix, KvStore, MessageEvent, Report, Result, SetOptions, SetOutcome, Version, WatchEvent,
    WatchQuery, WatchStream, WatchTarget, delegate_store,
};
use tokio::sync::watch;

use super::faults;
use super::scan;

faults! { script_reports:
    /// Reports a `clear` as a gap, and takes the later writes of the cleared keys for a part of the `clear` until a
    /// watcher has read the gap.
    writes_behind_a_gap_are_lost: "W-1"
        ["random/watches"]
        |inner, _clock| LosesBehindGap { inner, clears: watch::Sender::default() };
    /// Sends a gap for the third delete after a `clear`, because the connection still expects the gap of the `clear`.
    delete_is_reported_as_an_old_gap: "W-1"
        ["random/watches"]
        |inner, _clock| LateGap { inner, clears: watch::Sender::default() };
    /// Reports a set of another handle although the set was refused.
    refused_sets_of_other_handles_are_reported: "W-1"
        ["random/watches_on_two_handles"]
        |inner, _clock| HearsRefusals { inner, id: Version::random() };
}

/// The number of each key's last `clear`, and the number of all.
#[derive(Default)]
struct Clears {
    keys: HashMap<Key, u64>,
    count: u64,
}

impl fmt::Debug for Clears {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clears").finish_non_exhaustive()
    }
}

/// Clears the inner store and notes the cleared keys.
async fn note_clear(inner: &dyn KvStore, clears: &watch::Sender<Clears>, prefix: &KeyPrefix) -> Result<u64> {
    let keys = scan::list_all(inner, prefix, true).await?;
    let removed = inner.clear(prefix).await?;
    if !keys.is_empty() {
        clears.send_modify(|clears| {
            clears.count += 1;
            clears.keys.extend(keys.into_iter().map(|item| (item.key, clears.count)));
        });
    }
    Ok(removed)
}

fn key_of(event: &Result<WatchEvent>) -> Option<&Key> {
    match event {
        Ok(WatchEvent::Set { key, .. } | WatchEvent::Removed { key }) => Some(key),
        _ => None,
    }
}

const GAP: WatchEvent = WatchEvent::Gap { reason: GapReason::Flushed };

#[derive(Debug)]
struct LosesBehindGap {
    inner: Arc<dyn KvStore>,
    clears: watch::Sender<Clears>,
}

#[async_trait]
impl KvStore for LosesBehindGap {
    delegate_store!(self.inner, except clear watch);

    async fn clear(&self, prefix: &KeyPrefix) -> Result<u64> {
        note_clear(&*self.inner, &self.clears, prefix).await
    }

    async fn watch(&self, query: &WatchQuery) -> Result<WatchStream> {
        let clears = self.clears.subscribe();
        let seen = clears.borrow().count;
        let state = (self.inner.watch(query).await?, clears, seen, VecDeque::new());
        let events = stream::unfold(state, |(mut events, mut clears, seen, mut queue)| async move {
            if let Some(event) = queue.pop_front() {
                return Some((event, (events, clears, seen, queue)));
            }
            let event = tokio::select! {
                biased;
                true = async { clears.wait_for(|clears| clears.count > seen).await.is_ok() } => None,
                event = events.next() => Some(event?),
            };
            if let Some(event) = event {
                return Some((event, (events, clears, seen, queue)));
            }
            let now = clears.borrow().count;
            while let Some(Some(event)) = events.next().now_or_never() {
                let number = key_of(&event).and_then(|key| clears.borrow().keys.get(key).copied());
                queue.extend(number.is_none_or(|number| number <= seen).then_some(event));
            }
            Some((Ok(GAP), (events, clears, now, queue)))
        });
        Ok(Box::pin(events))
    }
}

#[derive(Debug)]
struct LateGap {
    inner: Arc<dyn KvStore>,
    clears: watch::Sender<Clears>,
}

#[async_trait]
impl KvStore for LateGap {
    delegate_store!(self.inner, except clear watch);

    async fn clear(&self, prefix: &KeyPrefix) -> Result<u64> {
        note_clear(&*self.inner, &self.clears, prefix).await
    }

    async fn watch(&self, query: &WatchQuery) -> Result<WatchStream> {
        let clears = self.clears.subscribe();
        let (mut seen, mut removals) = (clears.borrow().count, usize::MAX);
        let events = self.inner.watch(query).await?;
        Ok(Box::pin(events.map(move |event| {
            let clears = clears.borrow();
            if clears.count > seen {
                (seen, removals) = (clears.count, 0);
            }
            match event {
                Ok(WatchEvent::Removed { key }) if clears.keys.get(&key) != Some(&seen) => {
                    removals = removals.saturating_add(1);
                    Ok(if removals == 3 { GAP } else { WatchEvent::Removed { key } })
                }
                event => event,
            }
        })))
    }
}

#[derive(Debug)]
struct HearsRefusals {
    inner: Arc<dyn KvStore>,
    id: Version,
}

impl HearsRefusals {
    /// The channel on which the handles send each other the keys of refused sets.
    fn channel() -> Result<Key> {
        Key::new(["\0refused"])
    }
}

#[async_trait]
impl KvStore for HearsRefusals {
    delegate_store!(self.inner, except set set_many watch);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        let outcome = self.inner.set(key, value, options).await?;
        if !outcome.is_stored() {
            let message = [self.id.as_bytes(), key.as_str().as_bytes()].concat();
            self.inner.publish(&Self::channel()?, message.into()).await?;
        }
        Ok(outcome)
    }

    async fn watch(&self, query: &WatchQuery) -> Result<WatchStream> {
        let refused = self.inner.subscribe(&Self::channel()?.into()).await?;
        let (inner, id, query_of_reports) = (Arc::clone(&self.inner), self.id, query.clone());
        let reports = refused.filter_map(move |event| {
            let (inner, query) = (Arc::clone(&inner), query_of_reports.clone());
            async move {
                let Ok(MessageEvent::Message(message)) = event else { return None };
                let (sender, key) = message.payload.split_at_checked(id.as_bytes().len())?;
                if sender == id.as_bytes() {
                    return None;
                }
                let key = Key::parse_stored(std::str::from_utf8(key).ok()?).ok()?;
                let is_watched = match &query.target {
                    WatchTarget::Key(wanted) => *wanted == key,
                    target => target.prefix().covers(&key),
                };
                let entry = inner.get(&key).await.ok()?;
                is_watched.then(|| match entry {
                    Some(entry) => {
                        Ok(WatchEvent::Set { key, entry: (query.report == Report::Entries).then_some(entry) })
                    }
                    None => Ok(WatchEvent::Removed { key }),
                })
            }
        });
        Ok(Box::pin(stream::select(Box::pin(reports), self.inner.watch(query).await?)))
    }
}
