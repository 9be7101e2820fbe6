//! Stores in which one operation still sees expired entries.

use std::collections::BTreeMap;
use std::sync::{Arc, MutexGuard};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use kv_core::{
    Clock, CommitOutcome, DeleteOptions, DeleteOutcome, Entry, Expires, IncrementOptions, Initial, Key, KeyPrefix,
    KvStore, ListItem, ListPage, ListQuery, NewExpiry, Report, Result, SetOptions, SetOutcome, Transaction, WatchEvent,
    WatchQuery, WatchStream, When, delegate_store,
};

use super::hidden::Hidden;
use super::{faults, scan};

faults! { expired:
    /// Returns an expired entry from `get` until the entry is swept, as denokv does.
    get_returns_it: "T-1"
        ["expired/to_get_and_contains", "expiry/at_a_moment", "random/lives"]
        |inner, clock| SeesExpired::new(inner, clock, Operation::Get);
    /// Ignores the deadline in `contains`.
    contains_is_true: "T-1"
        ["expired/to_get_and_contains", "expiry/at_a_moment", "expiry/expires", "touch/a_permanent_one"]
        |inner, clock| SeesExpired::new(inner, clock, Operation::Contains);
    /// Ignores deadlines in `get_many`.
    get_many_returns_it: "T-1"
        ["batch/get_many_skips_the_expired", "expired/to_get_many"]
        |inner, clock| SeesExpired::new(inner, clock, Operation::GetMany);
    /// Lists expired entries.
    list_returns_it: "T-1"
        ["expired/to_list", "expired/to_list_limits", "sweep/same_keys_again"]
        |inner, clock| SeesExpired::new(inner, clock, Operation::List);
    /// Counts expired entries in the result of `clear`.
    clear_counts_it: "T-1"
        ["expired/to_clear"]
        |inner, clock| SeesExpired::new(inner, clock, Operation::Clear);
    /// Refuses to create a key whose entry has expired.
    absent_is_refused: "T-1"
        ["conditions/absent_stores_over_expired", "expired/to_absent"]
        |inner, clock| SeesExpired::new(inner, clock, Operation::Absent);
    /// Evaluates conditions on an expired entry as if it were live.
    conditions_hold: "T-1"
        ["conditions/value_is_refused_over_expired", "conditions/present_is_refused_over_expired",
         "conditions/version_is_refused_over_expired", "expired/to_its_value", "expired/to_its_version"]
        |inner, clock| SeesExpired::new(inner, clock, Operation::Present);
    /// Reports the delete of an expired entry as `Deleted`.
    delete_reports_it: "D-1"
        ["expired/to_delete", "conditional_deletes/absent_is_missing_over_expired", "expired/to_conditional_deletes",
         "expired/to_previous"]
        |inner, clock| SeesExpired::new(inner, clock, Operation::Delete);
    /// Continues counting from an expired counter.
    increment_continues: "T-1"
        ["expired/to_increment_of_text", "expired/to_increment"]
        |inner, clock| SeesExpired::new(inner, clock, Operation::Increment);
    /// Keeps the deadline of an expired entry in a set with `Keep`, so the new entry has already expired.
    keep_takes_its_deadline: "S-1"
        ["expiry/keep_on_expired_is_never"]
        |inner, clock| SeesExpired::new(inner, clock, Operation::Keep);
    /// Revives an expired entry in `touch`.
    touch_revives_it: "T-5"
        ["expired/to_touch"]
        |inner, clock| SeesExpired::new(inner, clock, Operation::Touch);
    /// Reports expired entries in the snapshot of a watch.
    snapshot_reports_it: "T-1"
        ["expired/to_snapshots", "watch_snapshot/leaves_out_the_expired"]
        |inner, clock| SeesExpired::new(inner, clock, Operation::Snapshot);
}

/// The operation that sees expired entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
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

/// Records every entry that has a deadline, and shows it to one operation after it has expired.
#[derive(Debug)]
struct SeesExpired {
    inner: Arc<dyn KvStore>,
    clock: Arc<dyn Clock>,
    seen_by: Operation,
    with_deadline: Hidden<BTreeMap<Key, Entry>>,
}

impl SeesExpired {
    fn new(inner: Arc<dyn KvStore>, clock: Arc<dyn Clock>, seen_by: Operation) -> Self {
        Self { inner, clock, seen_by, with_deadline: Hidden::default() }
    }

    fn with_deadline(&self) -> MutexGuard<'_, BTreeMap<Key, Entry>> {
        self.with_deadline.lock()
    }

    /// Returns the expired entry of a key if this operation sees expired entries.
    fn expired(&self, operation: Operation, key: &Key) -> Option<Entry> {
        self.with_deadline().get(key).filter(|entry| self.seen_by == operation && self.has_expired(entry)).cloned()
    }

    fn expired_entries(&self, operation: Operation) -> Vec<ListItem> {
        if self.seen_by != operation {
            return Vec::new();
        }
        let of = |(key, entry): (&Key, &Entry)| ListItem { key: key.clone(), entry: Some(entry.clone()) };
        self.with_deadline().iter().filter(|(_, entry)| self.has_expired(entry)).map(of).collect()
    }

    fn has_expired(&self, entry: &Entry) -> bool {
        matches!(entry.expires, Expires::At(deadline) if deadline <= self.clock.now())
    }

    /// Records the current entry of a key if it has a deadline.
    async fn record(&self, key: &Key) -> Result<()> {
        let entry = self.inner.get(key).await?;
        match entry.filter(|entry| matches!(entry.expires, Expires::At(_))) {
            Some(entry) => self.with_deadline().insert(key.clone(), entry),
            None => self.with_deadline().remove(key),
        };
        Ok(())
    }
}

#[async_trait]
impl KvStore for SeesExpired {
    delegate_store!(self.inner, except
        get contains get_many set set_many delete delete_many list clear touch increment commit watch);

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        Ok(self.inner.get(key).await?.or_else(|| self.expired(Operation::Get, key)))
    }

    async fn contains(&self, key: &Key) -> Result<bool> {
        Ok(self.inner.contains(key).await? || self.expired(Operation::Contains, key).is_some())
    }

    async fn get_many(&self, keys: &[Key]) -> Vec<Result<Option<Entry>>> {
        let found = self.inner.get_many(keys).await;
        let expired =
            |(key, found): (_, Result<Option<Entry>>)| Ok(found?.or_else(|| self.expired(Operation::GetMany, key)));
        keys.iter().zip(found).map(expired).collect()
    }

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        let mut options = options.clone();
        if let (When::Absent, Some(expired)) = (&options.when, self.expired(Operation::Absent, key)) {
            return Ok(SetOutcome::Refused { current: Some(expired) });
        }
        if self.expired(Operation::Present, key).is_some_and(|expired| options.when.holds(Some(&expired))) {
            options.when = When::Always;
        }
        if let (kv_core::Expiry::Keep, Some(expired)) = (options.expiry, self.expired(Operation::Keep, key)) {
            options.expiry = expired.expires.into();
        }
        let outcome = self.inner.set(key, value, &options).await?;
        if outcome.is_stored() {
            self.record(key).await?;
        }
        Ok(outcome)
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
        let outcome = self.inner.delete(key, options).await?;
        let expired = self.expired(Operation::Delete, key);
        if let DeleteOutcome::Refused { .. } = outcome {
            return Ok(outcome);
        }
        self.with_deadline().remove(key);
        Ok(match expired {
            Some(expired) => DeleteOutcome::Deleted { previous: Some(expired).filter(|_| options.return_previous) },
            None => outcome,
        })
    }

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        let expired = self.expired_entries(Operation::List);
        if expired.is_empty() {
            return self.inner.list(query).await;
        }
        query.check(&self.info().capabilities)?;
        let mut items = scan::list_all(&*self.inner, &query.prefix, query.keys_only).await?;
        items.extend(
            expired.into_iter().map(|item| ListItem { entry: item.entry.filter(|_| !query.keys_only), key: item.key }),
        );
        Ok(scan::page(items, query, |key| query.prefix.covers(key)))
    }

    async fn clear(&self, prefix: &KeyPrefix) -> Result<u64> {
        let cleared = self.inner.clear(prefix).await?;
        let expired = self.expired_entries(Operation::Clear).iter().filter(|item| prefix.covers(&item.key)).count();
        self.with_deadline().retain(|key, _| !prefix.covers(key));
        Ok(cleared + expired as u64)
    }

    async fn touch(&self, key: &Key, expiry: NewExpiry) -> Result<bool> {
        if let Some(expired) = self.expired(Operation::Touch, key) {
            let _ = self.inner.set(key, expired.value, &SetOptions::default().with_when(When::Absent)).await?;
        }
        let is_there = self.inner.touch(key, expiry).await?;
        if is_there {
            self.record(key).await?;
        }
        Ok(is_there)
    }

    async fn increment(&self, key: &Key, by: i64, options: &IncrementOptions) -> Result<i64> {
        if let Some(expired) = self.expired(Operation::Increment, key) {
            let _ = self.inner.set(key, expired.value, &SetOptions::default().with_when(When::Absent)).await?;
        }
        let sum = self.inner.increment(key, by, options).await?;
        self.record(key).await?;
        Ok(sum)
    }

    async fn commit(&self, transaction: &Transaction) -> Result<CommitOutcome> {
        let outcome = self.inner.commit(transaction).await?;
        if outcome.is_committed() {
            for mutation in &transaction.mutations {
                self.record(mutation.key()).await?;
            }
        }
        Ok(outcome)
    }

    async fn watch(&self, query: &WatchQuery) -> Result<WatchStream> {
        let events = self.inner.watch(query).await?;
        if query.initial != Initial::Snapshot {
            return Ok(events);
        }
        let covered =
            self.expired_entries(Operation::Snapshot).into_iter().filter(|item| query.target.covers(&item.key));
        let reports: Vec<Result<WatchEvent>> = covered
            .map(|item| {
                let entry = item.entry.filter(|_| query.report == Report::Entries);
                Ok(WatchEvent::Set { key: item.key, entry })
            })
            .collect();
        Ok(Box::pin(stream::iter(reports).chain(events)))
    }
}
