//! Writes that change or drop the requested deadline, and reads that move it.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use kv_core::{
    Clock, CommitOutcome, Entry, Expires, Expiry, IncrementOptions, Key, KvStore, Mutation, NewExpiry, Result, SetItem,
    SetOptions, SetOutcome, Transaction, When, delegate_store,
};

use super::faults;
use super::hidden::Hidden;

faults! { expiry:
    /// Keeps every entry forever.
    ttl_is_ignored: "T-1"
        ["expiry/expires", "expiry/at_a_moment"]
        |inner, clock| AlteredExpiry::new(inner, clock, |_, _, _| Expiry::Never);
    /// Truncates a time to live to whole seconds.
    ttl_in_whole_seconds: "T-2"
        ["expiry/not_before_its_time", "deadlines/now_and_the_ttl", "expiry/absent_at_its_deadline",
         "expiry/parts_of_seconds"]
        |inner, clock| AlteredExpiry::new(inner, clock, |_, expiry, _| match expiry {
            Expiry::After(ttl) if ttl.as_secs() > 0 => Expiry::After(Duration::from_secs(ttl.as_secs())),
            other => other,
        });
    /// Truncates a time to live of less than a second to zero, as Fedify's Redis store does. Its backend takes zero for
    /// never.
    less_than_a_second_is_never: "T-3"
        ["expiry/rounds_up", "conditions/previous_of_nothing_is_none"]
        |inner, clock| AlteredExpiry::new(inner, clock, |_, expiry, _| match expiry {
            Expiry::After(ttl) if ttl < Duration::from_secs(1) && !ttl.is_zero() => Expiry::Never,
            other => other,
        });
    /// Passes seconds to a backend that expects milliseconds.
    seconds_read_as_milliseconds: "T-2"
        ["expiry/not_before_its_time", "deadlines/by_one_clock"]
        |inner, clock| AlteredExpiry::new(inner, clock, |_, expiry, _| match expiry {
            Expiry::After(ttl) => Expiry::After(ttl / 1_000),
            other => other,
        });
    /// Keeps the old deadline when a set has no time to live.
    set_without_ttl_keeps_the_deadline: "S-1"
        ["expiry/overwrite_without_one_clears_it", "expiry/keep_keeps_none", "batch/set_many_overwrites",
         "concurrency/histories_with_expiry_are_linearizable", "deadlines/replaced", "random/lives"]
        |inner, clock| AlteredExpiry::new(inner, clock, |call, expiry, _| match (call, expiry) {
            (Call::Set, Expiry::Never) => Expiry::Keep,
            (_, other) => other,
        });
    /// Keeps the old deadline when a set has a time to live, as moka does by default.
    set_with_ttl_keeps_the_deadline: "S-1"
        ["expiry/overwrite_with_a_longer_one", "expiry/overwrite_with_a_shorter_one",
         "expiry/the_clock_starts_at_each_write"]
        |inner, clock| KeepsFirstDeadline { inner, clock };
    /// Drops the time to live of a conditional set.
    condition_drops_the_ttl: "S-1"
        ["expiry/a_condition_sets_it", "conditions/stored_set_replaces_the_deadline",
         "conditions/zero_ttl_is_judged_and_stored", "expiry/zero_is_judged_first"]
        |inner, clock| AlteredExpiry::new(inner, clock, |call, expiry, _| match (call, expiry) {
            (Call::ConditionalSet, Expiry::After(_) | Expiry::At(_)) => Expiry::Never,
            (_, other) => other,
        });
    /// Drops the time to live of a set in a transaction.
    transaction_drops_the_ttl: "X-1"
        ["transactions/ttl_inside", "transactions/keep_after_a_set_keeps_its_deadline"]
        |inner, clock| AlteredExpiry::new(inner, clock, |call, expiry, _| match (call, expiry) {
            (Call::Commit, Expiry::After(_) | Expiry::At(_)) => Expiry::Never,
            (_, other) => other,
        });
    /// Makes an entry permanent when a set has `Keep`.
    keep_drops_the_deadline: "S-1"
        ["expiry/keep_keeps_it", "deadlines/kept", "conditions/stored_set_keeps_the_deadline",
         "counters/keep_is_invalid", "transactions/keep_keeps_the_deadline"]
        |inner, clock| AlteredExpiry::new(inner, clock, |_, expiry, _| match expiry {
            Expiry::Keep => Expiry::Never,
            other => other,
        });
    /// Computes the deadline from the clock of a client that is five seconds ahead.
    clock_is_five_seconds_ahead: "T-4"
        ["deadlines/now_and_the_ttl", "shared/expiry_is_the_same", "processes/expiry_is_the_same"]
        |inner, clock| AlteredExpiry::new(inner, clock, |_, expiry, _| match expiry {
            Expiry::After(ttl) if !ttl.is_zero() => Expiry::After(ttl.saturating_add(Duration::from_secs(5))),
            other => other,
        });
    /// Counts a time to live from the start of a transaction that has been open for a while, as PostgreSQL's `now()`
    /// does.
    counts_from_the_transaction: "T-1"
        ["expiry/absent_at_its_deadline"]
        |inner, clock| AlteredExpiry::new(inner, clock, |_, expiry, _| match expiry {
            Expiry::After(ttl) if !ttl.is_zero() => Expiry::After(ttl.saturating_sub(Duration::from_millis(20))),
            other => other,
        });
    /// Keeps an entry forever if its time to live is zero.
    zero_is_never: "T-3"
        ["expiry/zero_is_absent", "expiry/zero_removes_what_was_there", "touch/only_this_key"]
        |inner, clock| AlteredExpiry::new(inner, clock, |_, expiry, _| match expiry {
            Expiry::After(Duration::ZERO) => Expiry::Never,
            other => other,
        });
    /// Keeps an entry forever if its deadline is in the past.
    the_past_is_never: "T-3"
        ["expiry/the_past_is_absent", "expiry/now_is_absent", "conditions/deadline_in_the_past_is_judged",
         "touch/the_past"]
        |inner, clock| AlteredExpiry::new(inner, clock, |_, expiry, now| match expiry {
            Expiry::At(moment) if moment <= now => Expiry::Never,
            other => other,
        });
    /// Overflows on a huge time to live, so the entry expires at once.
    huge_wraps_to_the_past: "T-3"
        ["expiry/the_longest_is_never", "deadlines/never", "touch/the_longest"]
        |inner, clock| AlteredExpiry::new(inner, clock, |_, expiry, now| match expiry {
            Expiry::After(ttl) if now.checked_add(ttl).is_none() => Expiry::At(SystemTime::UNIX_EPOCH),
            other => other,
        });
    /// Interprets a time to live of more than thirty days as a Unix time, as memcached does.
    a_month_is_a_unix_time: "T-2"
        ["expiry/a_month_is_not_short"]
        |inner, clock| AlteredExpiry::new(inner, clock, |_, expiry, now| match expiry {
            Expiry::After(ttl) if ttl > Duration::from_secs(30 * 86_400) => {
                SystemTime::UNIX_EPOCH.checked_add(ttl).filter(|moment| *moment < now).map_or(expiry, Expiry::At)
            }
            other => other,
        });
    /// Applies the last time to live of a key to the next set that has none.
    set_reuses_the_last_ttl: "S-1"
        ["expiry/written_again_it_stays", "expiry/overwrite_without_one_clears_it",
         "shared/histories_with_expiry_are_linearizable", "processes/histories_with_expiry_are_linearizable"]
        |inner, _clock| ReusesLastTtl { inner, ttls: Hidden::default() };
    /// Drops the times to live of the items of a `set_many`.
    batch_drops_the_ttl: "B-1"
        ["expiry/each_of_a_batch_its_own", "batch/set_many_expires_one_by_one", "restart/unswept_entries_do_not_return"]
        |inner, _clock| BatchWithoutTtl { inner };
    /// Restarts the time to live at every `get`, as denokv did.
    get_extends: "T-5"
        ["expiry/reading_does_not_extend", "deadlines/it_stands_still", "expiry/each_at_its_own"]
        |inner, _clock| ExtendingGet { inner, ttls: Hidden::default() };
    /// Restarts the time to live at every increment, as better-auth's rate limits did.
    increment_renews_the_ttl: "C-1"
        ["counters/keeps_the_deadline", "counters/keeps_having_no_deadline"]
        |inner, _clock| ExtendingIncrement { inner };
    /// Treats a deadline beyond the year 9999 as passed.
    the_farthest_moment_is_now: "T-3"
        ["expiry/the_farthest_moment_is_never"]
        |inner, clock| AlteredExpiry::new(inner, clock, |_, expiry, _| match expiry {
            Expiry::At(moment) if moment > SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_800) => {
                Expiry::At(SystemTime::UNIX_EPOCH)
            }
            other => other,
        });
    /// Stores an absolute deadline as the number of whole seconds that remain.
    deadlines_are_truncated_to_seconds: "T-4"
        ["deadlines/copied", "deadlines/a_moment", "touch/to_a_moment"]
        |inner, clock| AlteredExpiry::new(inner, clock, |_, expiry, now| match expiry {
            Expiry::At(moment) => {
                Expiry::After(Duration::from_secs(moment.duration_since(now).unwrap_or_default().as_secs()))
            }
            other => other,
        });
}

/// The operation that an expiry belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Set,
    ConditionalSet,
    Increment,
    Commit,
    Touch,
}

type Alter = fn(Call, Expiry, SystemTime) -> Expiry;

/// Changes the expiry of a call before the good store receives it.
struct AlteredExpiry {
    inner: Arc<dyn KvStore>,
    clock: Arc<dyn Clock>,
    alter: Alter,
}

impl AlteredExpiry {
    fn new(inner: Arc<dyn KvStore>, clock: Arc<dyn Clock>, alter: Alter) -> Self {
        Self { inner, clock, alter }
    }

    fn altered(&self, call: Call, expiry: Expiry) -> Expiry {
        (self.alter)(call, expiry, self.clock.now())
    }
}

impl fmt::Debug for AlteredExpiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AlteredExpiry").finish_non_exhaustive()
    }
}

#[async_trait]
impl KvStore for AlteredExpiry {
    delegate_store!(self.inner, except set set_many touch increment commit);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        let call = if options.when == When::Always { Call::Set } else { Call::ConditionalSet };
        let options = options.clone().with_expiry(self.altered(call, options.expiry));
        self.inner.set(key, value, &options).await
    }

    async fn touch(&self, key: &Key, expiry: NewExpiry) -> Result<bool> {
        let expiry = match self.altered(Call::Touch, expiry.into()) {
            Expiry::After(ttl) => NewExpiry::After(ttl),
            Expiry::At(moment) => NewExpiry::At(moment),
            _ => NewExpiry::Never,
        };
        self.inner.touch(key, expiry).await
    }

    async fn increment(&self, key: &Key, by: i64, options: &IncrementOptions) -> Result<i64> {
        let options = options.clone().with_expiry(self.altered(Call::Increment, options.expiry));
        self.inner.increment(key, by, &options).await
    }

    async fn commit(&self, transaction: &Transaction) -> Result<CommitOutcome> {
        let mut transaction = transaction.clone();
        for mutation in &mut transaction.mutations {
            if let Mutation::Set { expiry, .. } = mutation {
                *expiry = self.altered(Call::Commit, *expiry);
            }
        }
        self.inner.commit(&transaction).await
    }
}

/// True if the entry has a deadline.
fn has_deadline(entry: &Entry) -> bool {
    matches!(entry.expires, Expires::At(_))
}

#[derive(Debug)]
struct KeepsFirstDeadline {
    inner: Arc<dyn KvStore>,
    clock: Arc<dyn Clock>,
}

#[async_trait]
impl KvStore for KeepsFirstDeadline {
    delegate_store!(self.inner, except set set_many);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        let ends = match options.expiry {
            Expiry::After(ttl) => !ttl.is_zero(),
            Expiry::At(moment) => moment > self.clock.now(),
            _ => false,
        };
        if ends && self.inner.get(key).await?.as_ref().is_some_and(has_deadline) {
            return self.inner.set(key, value, &options.clone().with_expiry(Expiry::Keep)).await;
        }
        self.inner.set(key, value, options).await
    }
}

#[derive(Debug)]
struct ExtendingGet {
    inner: Arc<dyn KvStore>,
    ttls: Hidden<HashMap<Key, Duration>>,
}

#[async_trait]
impl KvStore for ExtendingGet {
    delegate_store!(self.inner, except get get_many set set_many);

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        let found = self.inner.get(key).await?;
        let ttl = self.ttls.lock().get(key).copied();
        if let (Some(ttl), true) = (ttl, found.as_ref().is_some_and(has_deadline)) {
            self.inner.touch(key, NewExpiry::After(ttl)).await?;
        }
        Ok(found)
    }

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        let outcome = self.inner.set(key, value, options).await?;
        if let (Expiry::After(ttl), true) = (options.expiry, outcome.is_stored()) {
            self.ttls.lock().insert(key.clone(), ttl);
        }
        Ok(outcome)
    }
}

#[derive(Debug)]
struct ExtendingIncrement {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for ExtendingIncrement {
    delegate_store!(self.inner, except increment);

    async fn increment(&self, key: &Key, by: i64, options: &IncrementOptions) -> Result<i64> {
        let sum = self.inner.increment(key, by, options).await?;
        if let Expiry::After(ttl) = options.expiry {
            self.inner.touch(key, NewExpiry::After(ttl)).await?;
        }
        Ok(sum)
    }
}

#[derive(Debug)]
struct BatchWithoutTtl {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for BatchWithoutTtl {
    delegate_store!(self.inner, except set_many);

    async fn set_many(&self, items: &[SetItem]) -> Vec<Result<SetOutcome>> {
        let mut items = items.to_vec();
        for item in &mut items {
            item.options.expiry = Expiry::Never;
        }
        self.inner.set_many(&items).await
    }
}

#[derive(Debug)]
struct ReusesLastTtl {
    inner: Arc<dyn KvStore>,
    ttls: Hidden<HashMap<Key, Duration>>,
}

#[async_trait]
impl KvStore for ReusesLastTtl {
    delegate_store!(self.inner, except set set_many);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        let mut options = options.clone();
        match options.expiry {
            Expiry::After(ttl) => drop(self.ttls.lock().insert(key.clone(), ttl)),
            Expiry::Never => {
                if let Some(ttl) = self.ttls.lock().get(key) {
                    options.expiry = Expiry::After(*ttl);
                }
            }
            _ => {}
        }
        self.inner.set(key, value, &options).await
    }
}
