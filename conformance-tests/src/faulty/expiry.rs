//! Deadlines that are changed on the way in.

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
use super::kept::Kept;

faults! { expiry:
    ttl_is_ignored: "T-1" "keeps every entry for ever"
        ["expiry/expires", "expiry/at_a_moment"]
        |inner, clock| Altered::new(inner, clock, |_, _, _| Expiry::Never);
    ttl_in_whole_seconds: "T-2" "cuts a time to live down to whole seconds"
        ["expiry/not_before_its_time", "deadlines/now_and_the_ttl", "expiry/absent_at_its_deadline",
         "expiry/parts_of_seconds"]
        |inner, clock| Altered::new(inner, clock, |_, expiry, _| match expiry {
            Expiry::After(ttl) if ttl.as_secs() > 0 => Expiry::After(Duration::from_secs(ttl.as_secs())),
            other => other,
        });
    less_than_a_second_is_never: "T-3" "cuts less than a second down to zero, which its backend reads as for ever; Fedify's Redis store fails here"
        ["expiry/rounds_up", "conditions/previous_of_nothing_is_none"]
        |inner, clock| Altered::new(inner, clock, |_, expiry, _| match expiry {
            Expiry::After(ttl) if ttl < Duration::from_secs(1) && !ttl.is_zero() => Expiry::Never,
            other => other,
        });
    seconds_read_as_milliseconds: "T-2" "hands seconds to a backend that counts milliseconds"
        ["expiry/not_before_its_time", "deadlines/by_one_clock"]
        |inner, clock| Altered::new(inner, clock, |_, expiry, _| match expiry {
            Expiry::After(ttl) => Expiry::After(ttl / 1_000),
            other => other,
        });
    overwrite_stays_mortal: "S-1" "a set without time to live keeps the old deadline"
        ["expiry/overwrite_without_one_clears_it", "expiry/keep_keeps_none", "batch/set_many_overwrites",
         "concurrency/histories_with_expiry_are_linearizable", "deadlines/replaced", "random/lives"]
        |inner, clock| Altered::new(inner, clock, |path, expiry, _| match (path, expiry) {
            (Path::Set, Expiry::Never) => Expiry::Keep,
            (_, other) => other,
        });
    overwrite_keeps_the_deadline: "S-1" "a set with time to live over a mortal entry keeps the old deadline, as moka does unless told otherwise"
        ["expiry/overwrite_with_a_longer_one", "expiry/overwrite_with_a_shorter_one",
         "expiry/the_clock_starts_at_each_write"]
        |inner, clock| FirstDeadline { inner, clock };
    condition_drops_the_ttl: "S-1" "a conditional set stores without its time to live"
        ["expiry/a_condition_sets_it", "conditions/stored_set_replaces_the_deadline",
         "conditions/zero_ttl_is_judged_and_stored", "expiry/zero_is_judged_first"]
        |inner, clock| Altered::new(inner, clock, |path, expiry, _| match (path, expiry) {
            (Path::ConditionalSet, Expiry::After(_) | Expiry::At(_)) => Expiry::Never,
            (_, other) => other,
        });
    transaction_drops_the_ttl: "X-1" "a set inside a transaction stores without its time to live"
        ["transactions/ttl_inside", "transactions/keep_after_a_set_keeps_its_deadline"]
        |inner, clock| Altered::new(inner, clock, |path, expiry, _| match (path, expiry) {
            (Path::Commit, Expiry::After(_) | Expiry::At(_)) => Expiry::Never,
            (_, other) => other,
        });
    keep_forgets_the_deadline: "S-1" "`Keep` makes an entry permanent"
        ["expiry/keep_keeps_it", "deadlines/kept", "conditions/stored_set_keeps_the_deadline",
         "counters/keep_is_invalid", "transactions/keep_keeps_the_deadline"]
        |inner, clock| Altered::new(inner, clock, |_, expiry, _| match expiry {
            Expiry::Keep => Expiry::Never,
            other => other,
        });
    clock_is_five_seconds_ahead: "T-4" "takes the deadline from the clock of a client that is five seconds ahead"
        ["deadlines/now_and_the_ttl", "shared/expiry_is_the_same", "processes/expiry_is_the_same"]
        |inner, clock| Altered::new(inner, clock, |_, expiry, _| match expiry {
            Expiry::After(ttl) if !ttl.is_zero() => Expiry::After(ttl.saturating_add(Duration::from_secs(5))),
            other => other,
        });
    counts_from_the_transaction: "T-1" "counts a time to live from the start of a transaction that has long been open, as PostgreSQL's `now()` does"
        ["expiry/absent_at_its_deadline"]
        |inner, clock| Altered::new(inner, clock, |_, expiry, _| match expiry {
            Expiry::After(ttl) if !ttl.is_zero() => Expiry::After(ttl.saturating_sub(Duration::from_millis(20))),
            other => other,
        });
    zero_is_never: "T-3" "a time to live of zero is stored for ever"
        ["expiry/zero_is_absent", "expiry/zero_removes_what_was_there", "touch/only_this_key"]
        |inner, clock| Altered::new(inner, clock, |_, expiry, _| match expiry {
            Expiry::After(Duration::ZERO) => Expiry::Never,
            other => other,
        });
    the_past_is_never: "T-3" "a deadline in the past is stored for ever"
        ["expiry/the_past_is_absent", "expiry/now_is_absent", "conditions/deadline_in_the_past_is_judged",
         "touch/the_past"]
        |inner, clock| Altered::new(inner, clock, |_, expiry, now| match expiry {
            Expiry::At(moment) if moment <= now => Expiry::Never,
            other => other,
        });
    huge_wraps_to_the_past: "T-3" "a huge time to live overflows, and the entry is gone at once"
        ["expiry/the_longest_is_never", "deadlines/never", "touch/the_longest"]
        |inner, clock| Altered::new(inner, clock, |_, expiry, now| match expiry {
            Expiry::After(ttl) if now.checked_add(ttl).is_none() => Expiry::At(SystemTime::UNIX_EPOCH),
            other => other,
        });
    a_month_is_a_date: "T-2" "reads more than thirty days as a moment since 1970, as memcached does"
        ["expiry/a_month_is_not_short"]
        |inner, clock| Altered::new(inner, clock, |_, expiry, now| match expiry {
            Expiry::After(ttl) if ttl > Duration::from_secs(30 * 86_400) => {
                SystemTime::UNIX_EPOCH.checked_add(ttl).filter(|moment| *moment < now).map_or(expiry, Expiry::At)
            }
            other => other,
        });
    a_key_keeps_its_ttl: "S-1" "gives the time to live that a key last had to the next write that has none"
        ["expiry/written_again_it_stays", "expiry/overwrite_without_one_clears_it",
         "shared/histories_with_expiry_are_linearizable", "processes/histories_with_expiry_are_linearizable"]
        |inner, _clock| Habitual { inner, ttls: Kept::default() };
    batch_drops_the_ttl: "B-1" "`set_many` stores without the times to live of its entries"
        ["expiry/each_of_a_batch_its_own", "batch/set_many_expires_one_by_one", "restart/unswept_entries_do_not_return"]
        |inner, _clock| ImmortalBatch { inner };
    get_extends: "T-5" "every get starts the time to live anew, as denokv's did"
        ["expiry/reading_does_not_extend", "deadlines/it_stands_still", "expiry/each_at_its_own"]
        |inner, _clock| Sliding { inner, ttls: Kept::default() };
    increment_renews_the_ttl: "C-1" "every increment starts the time to live anew, as better-auth's rate limits did"
        ["counters/keeps_the_deadline", "counters/keeps_having_no_deadline"]
        |inner, _clock| RenewingCounter { inner };
    the_farthest_moment_is_now: "T-3" "a deadline beyond the year 9999 is taken for one that has passed"
        ["expiry/the_farthest_moment_is_never"]
        |inner, clock| Altered::new(inner, clock, |_, expiry, _| match expiry {
            Expiry::At(moment) if moment > SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_800) => {
                Expiry::At(SystemTime::UNIX_EPOCH)
            }
            other => other,
        });
    copies_start_anew: "T-4" "stores what is left of a deadline in whole seconds"
        ["deadlines/copied", "deadlines/a_moment", "touch/to_a_moment"]
        |inner, clock| Altered::new(inner, clock, |_, expiry, now| match expiry {
            Expiry::At(moment) => {
                Expiry::After(Duration::from_secs(moment.duration_since(now).unwrap_or_default().as_secs()))
            }
            other => other,
        });
}

/// The call by which an expiry came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Path {
    Set,
    ConditionalSet,
    Increment,
    Commit,
    Touch,
}

type Alter = fn(Path, Expiry, SystemTime) -> Expiry;

/// Changes what the caller asks for before the good store sees it.
struct Altered {
    inner: Arc<dyn KvStore>,
    clock: Arc<dyn Clock>,
    alter: Alter,
}

impl Altered {
    fn new(inner: Arc<dyn KvStore>, clock: Arc<dyn Clock>, alter: Alter) -> Self {
        Self { inner, clock, alter }
    }

    fn altered(&self, path: Path, expiry: Expiry) -> Expiry {
        (self.alter)(path, expiry, self.clock.now())
    }
}

impl fmt::Debug for Altered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Altered").finish_non_exhaustive()
    }
}

#[async_trait]
impl KvStore for Altered {
    delegate_store!(self.inner, except set set_many touch increment commit);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        let path = if options.when == When::Always { Path::Set } else { Path::ConditionalSet };
        let options = options.clone().with_expiry(self.altered(path, options.expiry));
        self.inner.set(key, value, &options).await
    }

    async fn touch(&self, key: &Key, expiry: NewExpiry) -> Result<bool> {
        let expiry = match self.altered(Path::Touch, expiry.into()) {
            Expiry::After(ttl) => NewExpiry::After(ttl),
            Expiry::At(moment) => NewExpiry::At(moment),
            _ => NewExpiry::Never,
        };
        self.inner.touch(key, expiry).await
    }

    async fn increment(&self, key: &Key, by: i64, options: &IncrementOptions) -> Result<i64> {
        let options = options.clone().with_expiry(self.altered(Path::Increment, options.expiry));
        self.inner.increment(key, by, &options).await
    }

    async fn commit(&self, transaction: &Transaction) -> Result<CommitOutcome> {
        let mut transaction = transaction.clone();
        for mutation in &mut transaction.mutations {
            if let Mutation::Set { expiry, .. } = mutation {
                *expiry = self.altered(Path::Commit, *expiry);
            }
        }
        self.inner.commit(&transaction).await
    }
}

/// Whether the entry has a deadline.
fn is_mortal(entry: &Entry) -> bool {
    matches!(entry.expires, Expires::At(_))
}

#[derive(Debug)]
struct FirstDeadline {
    inner: Arc<dyn KvStore>,
    clock: Arc<dyn Clock>,
}

#[async_trait]
impl KvStore for FirstDeadline {
    delegate_store!(self.inner, except set set_many);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        let ends = match options.expiry {
            Expiry::After(ttl) => !ttl.is_zero(),
            Expiry::At(moment) => moment > self.clock.now(),
            _ => false,
        };
        if ends && self.inner.get(key).await?.as_ref().is_some_and(is_mortal) {
            return self.inner.set(key, value, &options.clone().with_expiry(Expiry::Keep)).await;
        }
        self.inner.set(key, value, options).await
    }
}

#[derive(Debug)]
struct Sliding {
    inner: Arc<dyn KvStore>,
    ttls: Kept<HashMap<Key, Duration>>,
}

#[async_trait]
impl KvStore for Sliding {
    delegate_store!(self.inner, except get get_many set set_many);

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        let found = self.inner.get(key).await?;
        let ttl = self.ttls.lock().get(key).copied();
        if let (Some(ttl), true) = (ttl, found.as_ref().is_some_and(is_mortal)) {
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
struct RenewingCounter {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for RenewingCounter {
    delegate_store!(self.inner, except increment);

    async fn increment(&self, key: &Key, by: i64, options: &IncrementOptions) -> Result<i64> {
        let sum = self.inner.increment(key, by, options).await?;
        if let Expiry::After(ttl) = options.expiry {
            self.inner.touch(key, NewExpiry::After(ttl)).await?;
        }
        Ok(sum)
    }
}

/// A batch that stores without the times to live of its entries.
#[derive(Debug)]
struct ImmortalBatch {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for ImmortalBatch {
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
struct Habitual {
    inner: Arc<dyn KvStore>,
    ttls: Kept<HashMap<Key, Duration>>,
}

#[async_trait]
impl KvStore for Habitual {
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
