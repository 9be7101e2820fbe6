//! Stores in which one operation still sees expired entries, until the sweeper would have come.

use std::collections::BTreeMap;
use std::sync::{Arc, MutexGuard};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use kv_core::{
    Clock, CommitOutcome, DeleteOptions, DeleteOutcome, Entry, Expires, IncrementOptions, Initial, Key, KeyPrefix,
    KvStore, ListItem, ListPage, ListQuery, NewExpiry, Result, SetOptions, SetOutcome, Transaction, WatchEvent,
    WatchQuery, WatchStream, When, delegate_store,
};

use super::kept::Kept;
use super::{faults, scan};

faults! { ghosts:
    get: "T-1" "gives an expired entry until the collection comes, as denokv's does"
        ["expired/to_get_and_contains", "expiry/at_a_moment", "random/lives"]
        |inner, clock| Haunted::new(inner, clock, Haunt::Get);
    contains: "T-1" "`contains` looks at the index, not at the deadline"
        ["expired/to_get_and_contains", "expiry/at_a_moment", "expiry/expires", "touch/a_permanent_one"]
        |inner, clock| Haunted::new(inner, clock, Haunt::Contains);
    get_many: "T-1" "a batch of gets does not look at deadlines"
        ["batch/get_many_skips_the_expired", "expired/to_get_many"]
        |inner, clock| Haunted::new(inner, clock, Haunt::GetMany);
    list: "T-1" "lists what has expired"
        ["expired/to_list", "expired/to_list_limits", "sweep/same_keys_again"]
        |inner, clock| Haunted::new(inner, clock, Haunt::List);
    clear: "T-1" "counts what has expired among what it cleared"
        ["expired/to_clear"]
        |inner, clock| Haunted::new(inner, clock, Haunt::Clear);
    absent: "T-1" "refuses to create a key whose entry has expired"
        ["conditions/absent_stores_over_expired", "expired/to_absent"]
        |inner, clock| Haunted::new(inner, clock, Haunt::Absent);
    present: "T-1" "an expired entry meets the conditions of a live one"
        ["conditions/value_is_refused_over_expired", "conditions/present_is_refused_over_expired",
         "conditions/version_is_refused_over_expired", "expired/to_its_value", "expired/to_its_version"]
        |inner, clock| Haunted::new(inner, clock, Haunt::Present);
    delete: "D-1" "deleting an expired entry says that something was removed"
        ["expired/to_delete", "conditional_deletes/absent_is_missing_over_expired", "expired/to_conditional_deletes",
         "expired/to_previous"]
        |inner, clock| Haunted::new(inner, clock, Haunt::Delete);
    increment: "T-1" "goes on counting where an expired counter ended"
        ["expired/to_increment_of_text", "expired/to_increment"]
        |inner, clock| Haunted::new(inner, clock, Haunt::Increment);
    keep: "S-1" "`Keep` over an expired entry keeps its deadline, and the new entry is gone at once"
        ["expiry/keep_on_expired_is_never"]
        |inner, clock| Haunted::new(inner, clock, Haunt::Keep);
    touch: "T-5" "`touch` brings an expired entry back"
        ["expired/to_touch"]
        |inner, clock| Haunted::new(inner, clock, Haunt::Touch);
    snapshot: "T-1" "the snapshot of a watch tells of expired entries"
        ["expired/to_snapshots", "watch_snapshot/leaves_out_the_expired"]
        |inner, clock| Haunted::new(inner, clock, Haunt::Snapshot);
}

/// The one operation that sees ghosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Haunt {
    Get,
    Contains,
    GetMany,
    List,
    Clear,
    Absent,
    Present,
    Delete,
    Increment,
    Keep,
    Touch,
    Snapshot,
}

/// Remembers every entry with a deadline that was written by `set`, and shows it to one operation when it has expired.
#[derive(Debug)]
struct Haunted {
    inner: Arc<dyn KvStore>,
    clock: Arc<dyn Clock>,
    seen_by: Haunt,
    mortals: Kept<BTreeMap<Key, Entry>>,
}

impl Haunted {
    fn new(inner: Arc<dyn KvStore>, clock: Arc<dyn Clock>, seen_by: Haunt) -> Self {
        Self { inner, clock, seen_by, mortals: Kept::default() }
    }

    fn mortals(&self) -> MutexGuard<'_, BTreeMap<Key, Entry>> {
        self.mortals.lock()
    }

    /// The expired entry of a key, where this operation sees it.
    fn ghost(&self, haunt: Haunt, key: &Key) -> Option<Entry> {
        self.mortals().get(key).filter(|entry| self.seen_by == haunt && self.has_expired(entry)).cloned()
    }

    fn ghosts(&self, haunt: Haunt) -> Vec<ListItem> {
        if self.seen_by != haunt {
            return Vec::new();
        }
        let of = |(key, entry): (&Key, &Entry)| ListItem { key: key.clone(), entry: Some(entry.clone()) };
        self.mortals().iter().filter(|(_, entry)| self.has_expired(entry)).map(of).collect()
    }

    fn has_expired(&self, entry: &Entry) -> bool {
        matches!(entry.expires, Expires::At(deadline) if deadline <= self.clock.now())
    }

    /// Remembers what is under a key now.
    async fn remember(&self, key: &Key) -> Result<()> {
        let entry = self.inner.get(key).await?;
        match entry.filter(|entry| matches!(entry.expires, Expires::At(_))) {
            Some(entry) => self.mortals().insert(key.clone(), entry),
            None => self.mortals().remove(key),
        };
        Ok(())
    }
}

#[async_trait]
impl KvStore for Haunted {
    delegate_store!(self.inner, except
        get contains get_many set set_many delete delete_many list clear touch increment commit watch);

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        Ok(self.inner.get(key).await?.or_else(|| self.ghost(Haunt::Get, key)))
    }

    async fn contains(&self, key: &Key) -> Result<bool> {
        Ok(self.inner.contains(key).await? || self.ghost(Haunt::Contains, key).is_some())
    }

    async fn get_many(&self, keys: &[Key]) -> Vec<Result<Option<Entry>>> {
        let found = self.inner.get_many(keys).await;
        let ghost = |(key, found): (_, Result<Option<Entry>>)| Ok(found?.or_else(|| self.ghost(Haunt::GetMany, key)));
        keys.iter().zip(found).map(ghost).collect()
    }

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        let mut options = options.clone();
        if let (When::Absent, Some(ghost)) = (&options.when, self.ghost(Haunt::Absent, key)) {
            return Ok(SetOutcome::Refused { current: Some(ghost) });
        }
        if self.ghost(Haunt::Present, key).is_some_and(|ghost| options.when.holds(Some(&ghost))) {
            options.when = When::Always;
        }
        if let (kv_core::Expiry::Keep, Some(ghost)) = (options.expiry, self.ghost(Haunt::Keep, key)) {
            options.expiry = ghost.expires.into();
        }
        let outcome = self.inner.set(key, value, &options).await?;
        if outcome.is_stored() {
            self.remember(key).await?;
        }
        Ok(outcome)
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
        let outcome = self.inner.delete(key, options).await?;
        let ghost = self.ghost(Haunt::Delete, key);
        if let DeleteOutcome::Refused { .. } = outcome {
            return Ok(outcome);
        }
        self.mortals().remove(key);
        Ok(match ghost {
            Some(ghost) => DeleteOutcome::Deleted { previous: Some(ghost).filter(|_| options.return_previous) },
            None => outcome,
        })
    }

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        let ghosts = self.ghosts(Haunt::List);
        if ghosts.is_empty() {
            return self.inner.list(query).await;
        }
        query.check(&self.info().capabilities)?;
        let mut items = scan::everything(&*self.inner, &query.prefix, query.keys_only).await?;
        items.extend(
            ghosts
                .into_iter()
                .map(|ghost| ListItem { entry: ghost.entry.filter(|_| !query.keys_only), key: ghost.key }),
        );
        Ok(scan::page(items, query, |key| query.prefix.covers(key)))
    }

    async fn clear(&self, prefix: &KeyPrefix) -> Result<u64> {
        let cleared = self.inner.clear(prefix).await?;
        let ghosts = self.ghosts(Haunt::Clear).iter().filter(|ghost| prefix.covers(&ghost.key)).count();
        self.mortals().retain(|key, _| !prefix.covers(key));
        Ok(cleared + ghosts as u64)
    }

    async fn touch(&self, key: &Key, expiry: NewExpiry) -> Result<bool> {
        if let Some(ghost) = self.ghost(Haunt::Touch, key) {
            let _ = self.inner.set(key, ghost.value, &SetOptions::default().with_when(When::Absent)).await?;
        }
        let is_there = self.inner.touch(key, expiry).await?;
        if is_there {
            self.remember(key).await?;
        }
        Ok(is_there)
    }

    async fn increment(&self, key: &Key, by: i64, options: &IncrementOptions) -> Result<i64> {
        if let Some(ghost) = self.ghost(Haunt::Increment, key) {
            let _ = self.inner.set(key, ghost.value, &SetOptions::default().with_when(When::Absent)).await?;
        }
        let sum = self.inner.increment(key, by, options).await?;
        self.remember(key).await?;
        Ok(sum)
    }

    async fn commit(&self, transaction: &Transaction) -> Result<CommitOutcome> {
        let outcome = self.inner.commit(transaction).await?;
        if outcome.is_committed() {
            for mutation in &transaction.mutations {
                self.remember(mutation.key()).await?;
            }
        }
        Ok(outcome)
    }

    async fn watch(&self, query: &WatchQuery) -> Result<WatchStream> {
        let events = self.inner.watch(query).await?;
        if query.initial != Initial::Snapshot {
            return Ok(events);
        }
        let covered = self.ghosts(Haunt::Snapshot).into_iter().filter(|ghost| query.target.covers(&ghost.key));
        let told: Vec<Result<WatchEvent>> = covered
            .map(|ghost| Ok(WatchEvent::Set { key: ghost.key, entry: ghost.entry.filter(|_| !query.keys_only) }))
            .collect();
        Ok(Box::pin(stream::iter(told).chain(events)))
    }
}
