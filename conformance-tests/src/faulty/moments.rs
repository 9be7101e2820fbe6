//! Deadlines that are wrong at some moments or by some paths only, and a store without a sweeper.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use kv_core::{
    Clock, CommitOutcome, DeleteOptions, DeleteOutcome, Expires, Expiry, IncrementOptions, Key, KeyPrefix, KvStore,
    Mutation, NewExpiry, Result, SetItem, SetOptions, SetOutcome, Transaction, delegate_store,
};

use super::faults;
use super::hidden::Hidden;

faults! { moments:
    /// Adds seconds and milliseconds separately and loses the carry, so that an entry that is written late in a second
    /// expires a second early.
    carry_of_milliseconds_is_lost: "T-2"
        ["moments/late_in_a_second", "moments/seconds_carry", "expiry/parts_of_seconds"]
        |inner, clock| Altered::new(inner, clock, Path::Set, without_carry);
    /// Reads its clock in whole seconds, rounded to the nearest one, so that entries that are written late in a second
    /// live longer.
    clock_is_rounded_to_seconds: "T-1"
        ["expiry/absent_at_its_deadline", "moments/late_in_a_second"]
        |inner, clock| Altered::new(inner, clock, Path::Set, |expiry, now| match expiry {
            Expiry::After(ttl) if ttl > Duration::ZERO && subsecond_millis(now) >= 500 => {
                Expiry::After(ttl + Duration::from_millis(1_000 - subsecond_millis(now)))
            }
            _ => expiry,
        });
    /// Loses the carry in the deadline of a `touch`.
    carry_of_a_touch_is_lost: "T-5"
        ["moments/touched_late_in_a_second"]
        |inner, clock| Altered::new(inner, clock, Path::Touch, without_carry);
    /// Counts time from 1970, and keeps an entry forever if its deadline is before that.
    before_1970_is_never: "T-3"
        ["moments/before_1970"]
        |inner, clock| Altered::new(inner, clock, Path::Set, |expiry, _| match expiry {
            Expiry::At(moment) if moment < SystemTime::UNIX_EPOCH => Expiry::Never,
            _ => expiry,
        });
    /// Keeps a set of a transaction forever if its time to live is zero or its deadline is in the past.
    past_in_a_transaction_is_never: "X-1"
        ["moments/in_a_transaction", "transactions/ttl_inside"]
        |inner, clock| Altered::new(inner, clock, Path::Commit, past_is_never);
    /// Keeps an item of `set_many` forever if its time to live is zero or its deadline is in the past.
    past_in_a_batch_is_never: "B-1"
        ["moments/in_a_batch", "batch/set_many_expires_one_by_one"]
        |inner, clock| Altered::new(inner, clock, Path::Batch, past_is_never);
    /// Keeps a counter forever if it is created with a time to live of zero.
    past_of_a_new_counter_is_never: "C-1"
        ["moments/of_a_new_counter", "counters/expiry_is_for_creation"]
        |inner, clock| Altered::new(inner, clock, Path::Increment, past_is_never);
    /// Ignores `Keep` in the items of `set_many` and makes the entries permanent.
    keep_in_a_batch_is_never: "S-1"
        ["moments/kept_in_a_batch"]
        |inner, clock| Altered::new(inner, clock, Path::Batch, |expiry, _| match expiry {
            Expiry::Keep => Expiry::Never,
            _ => expiry,
        });
    /// Ignores `Expiry::At` for a new counter, because the store supports only times to live.
    moment_of_a_new_counter_is_never: "C-1"
        ["moments/at_a_moment_for_a_counter"]
        |inner, clock| Altered::new(inner, clock, Path::Increment, |expiry, _| match expiry {
            Expiry::At(_) => Expiry::Never,
            _ => expiry,
        });
    /// Truncates the time of `Expiry::At` in a transaction to whole seconds.
    moments_in_a_transaction_are_truncated: "X-1"
        ["moments/at_a_moment_in_a_transaction"]
        |inner, clock| Altered::new(inner, clock, Path::Commit, |expiry, _| match expiry {
            Expiry::At(moment) => Expiry::At(moment - Duration::from_millis(subsecond_millis(moment))),
            _ => expiry,
        });
    /// Keeps, in a set with `Keep`, the deadline of an entry that the same transaction removed before.
    keep_after_a_delete_keeps_the_deadline: "X-1"
        ["moments/kept_after_a_delete", "moments/kept_after_a_set_in_the_past"]
        |inner, clock| KeepAfterDelete { inner, clock };
    /// Returns no previous entry from a set whose deadline has passed, because the store turns the set into a plain
    /// delete.
    past_returns_no_previous: "S-2"
        ["moments/previous_of_a_set_in_the_past"]
        |inner, clock| NoPreviousInThePast { inner, clock };
    /// Has no background task: only `sweep` removes expired entries.
    nothing_sweeps: "T-6"
        ["moments/swept_without_a_call"]
        |inner, clock| NeverSwept { inner, clock, deadlines: Hidden::default() };
    /// Removes the deadline of an entry when an increment of the entry fails.
    failed_increment_drops_the_deadline: "C-1"
        ["counters/text_is_no_number", "counters/overflow_is_invalid"]
        |inner, _clock| DroppedByFailure { inner };
}

/// The milliseconds of a moment since the start of its second.
fn subsecond_millis(moment: SystemTime) -> u64 {
    moment.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| u64::from(since.subsec_millis()))
}

/// Adds a time to live, and loses the second that its milliseconds carry.
fn without_carry(expiry: Expiry, now: SystemTime) -> Expiry {
    match expiry {
        Expiry::After(ttl) if subsecond_millis(now) + u64::from(ttl.subsec_millis()) >= 1_000 => {
            now.checked_add(ttl).map_or(expiry, |late| Expiry::At(late - Duration::from_secs(1)))
        }
        _ => expiry,
    }
}

fn past_is_never(expiry: Expiry, now: SystemTime) -> Expiry {
    match expiry {
        Expiry::After(Duration::ZERO) => Expiry::Never,
        Expiry::At(moment) if moment <= now => Expiry::Never,
        _ => expiry,
    }
}

/// The operation whose expiry is altered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Path {
    Set,
    Batch,
    Commit,
    Increment,
    Touch,
}

/// Alters the expiry of writes on one path.
struct Altered {
    inner: Arc<dyn KvStore>,
    clock: Arc<dyn Clock>,
    path: Path,
    alter: fn(Expiry, SystemTime) -> Expiry,
}

impl fmt::Debug for Altered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Altered").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Altered {
    fn new(
        inner: Arc<dyn KvStore>,
        clock: Arc<dyn Clock>,
        path: Path,
        alter: fn(Expiry, SystemTime) -> Expiry,
    ) -> Self {
        Self { inner, clock, path, alter }
    }

    fn altered(&self, path: Path, expiry: Expiry) -> Expiry {
        if path == self.path { (self.alter)(expiry, self.clock.now()) } else { expiry }
    }
}

#[async_trait]
impl KvStore for Altered {
    delegate_store!(self.inner, except set set_many touch increment commit);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        let expiry = self.altered(Path::Set, options.expiry);
        self.inner.set(key, value, &options.clone().with_expiry(expiry)).await
    }

    async fn set_many(&self, items: &[SetItem]) -> Vec<Result<SetOutcome>> {
        let mut altered = items.to_vec();
        for item in &mut altered {
            item.options.expiry = self.altered(Path::Batch, item.options.expiry);
        }
        self.inner.set_many(&altered).await
    }

    async fn touch(&self, key: &Key, expiry: NewExpiry) -> Result<bool> {
        match self.altered(Path::Touch, expiry.into()) {
            Expiry::At(moment) => self.inner.touch(key, NewExpiry::At(moment)).await,
            _ => self.inner.touch(key, expiry).await,
        }
    }

    async fn increment(&self, key: &Key, by: i64, options: &IncrementOptions) -> Result<i64> {
        let expiry = self.altered(Path::Increment, options.expiry);
        self.inner.increment(key, by, &options.clone().with_expiry(expiry)).await
    }

    async fn commit(&self, transaction: &Transaction) -> Result<CommitOutcome> {
        let mut altered = transaction.clone();
        for mutation in &mut altered.mutations {
            if let Mutation::Set { expiry, .. } = mutation {
                *expiry = self.altered(Path::Commit, *expiry);
            }
        }
        self.inner.commit(&altered).await
    }
}

#[derive(Debug)]
struct KeepAfterDelete {
    inner: Arc<dyn KvStore>,
    clock: Arc<dyn Clock>,
}

#[async_trait]
impl KvStore for KeepAfterDelete {
    delegate_store!(self.inner, except commit);

    async fn commit(&self, transaction: &Transaction) -> Result<CommitOutcome> {
        let mut altered = transaction.clone();
        let mut deleted = HashSet::new();
        for mutation in &mut altered.mutations {
            match mutation {
                Mutation::Delete { key } => {
                    deleted.insert(key.clone());
                }
                Mutation::Set { key, expiry, .. } if past_is_never(*expiry, self.clock.now()) != *expiry => {
                    deleted.insert(key.clone());
                }
                Mutation::Set { key, expiry, .. } => {
                    if *expiry == Expiry::Keep && deleted.contains(key) {
                        *expiry = self.inner.get(key).await?.map_or(Expiry::Never, |entry| entry.expires.into());
                    }
                    deleted.remove(key);
                }
                _ => {}
            }
        }
        self.inner.commit(&altered).await
    }
}

#[derive(Debug)]
struct NoPreviousInThePast {
    inner: Arc<dyn KvStore>,
    clock: Arc<dyn Clock>,
}

#[async_trait]
impl KvStore for NoPreviousInThePast {
    delegate_store!(self.inner, except set set_many);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        let is_past = past_is_never(options.expiry, self.clock.now()) != options.expiry;
        Ok(match self.inner.set(key, value, options).await? {
            SetOutcome::Stored { version, .. } if is_past => SetOutcome::Stored { version, previous: None },
            outcome => outcome,
        })
    }
}

#[derive(Debug)]
struct NeverSwept {
    inner: Arc<dyn KvStore>,
    clock: Arc<dyn Clock>,
    /// The deadlines of the entries that no call has removed.
    deadlines: Hidden<HashMap<Key, SystemTime>>,
}

impl NeverSwept {
    /// Records the deadline of the entry of a key after a write.
    async fn record(&self, key: &Key) -> Result<()> {
        let found = self.inner.get(key).await?;
        let mut deadlines = self.deadlines.lock();
        match found.map(|entry| entry.expires) {
            Some(Expires::At(deadline)) => deadlines.insert(key.clone(), deadline),
            _ => deadlines.remove(key),
        };
        Ok(())
    }
}

#[async_trait]
impl KvStore for NeverSwept {
    delegate_store!(self.inner, except set set_many delete delete_many touch clear sweep);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        let outcome = self.inner.set(key, value, options).await?;
        self.record(key).await?;
        Ok(outcome)
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
        let outcome = self.inner.delete(key, options).await?;
        self.record(key).await?;
        Ok(outcome)
    }

    async fn touch(&self, key: &Key, expiry: NewExpiry) -> Result<bool> {
        let found = self.inner.touch(key, expiry).await?;
        self.record(key).await?;
        Ok(found)
    }

    async fn clear(&self, prefix: &KeyPrefix) -> Result<u64> {
        self.deadlines.lock().retain(|key, _| !prefix.covers(key));
        self.inner.clear(prefix).await
    }

    async fn sweep(&self) -> Result<u64> {
        let swept = self.inner.sweep().await?;
        let (now, mut due) = (self.clock.now(), 0);
        self.deadlines.lock().retain(|_, deadline| {
            due += u64::from(*deadline <= now);
            *deadline > now
        });
        Ok(swept.max(due))
    }
}

#[derive(Debug)]
struct DroppedByFailure {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for DroppedByFailure {
    delegate_store!(self.inner, except increment);

    async fn increment(&self, key: &Key, by: i64, options: &IncrementOptions) -> Result<i64> {
        let sum = self.inner.increment(key, by, options).await;
        if sum.is_err() {
            self.inner.touch(key, NewExpiry::Never).await?;
        }
        sum
    }
}
