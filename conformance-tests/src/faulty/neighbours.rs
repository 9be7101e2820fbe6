//! Calls that disturb concurrent calls: a call that fails in a batch, and a call that reads and writes in two steps.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use kv_core::{
    DeleteOptions, DeleteOutcome, Entry, Error, Expires, Expiry, IncrementOptions, Key, KvStore, NewExpiry, Result,
    SetOptions, SetOutcome, Version, When, delegate_store,
};

use super::faults;

faults! { neighbours:
    /// Sends concurrent calls as one batch, and fails all of them if one of them is invalid.
    invalid_call_fails_its_batch: "E-1"
        ["neighbours/of_invalid_increments", "neighbours/of_oversized_values"]
        |inner, _clock| FailsTogether { inner, failures: AtomicU64::new(0) };
    /// Applies concurrent calls in one transaction, and rolls all of them back if a condition does not hold.
    refused_call_rolls_back_its_batch: "S-1"
        ["neighbours/of_refused_sets"]
        |inner, _clock| RollsBackTogether { inner, refusals: AtomicU64::new(0) };
    /// Reads an entry in `touch` and writes it back, even if the key was deleted in between.
    touch_revives_a_deleted_key: "T-5"
        ["neighbours/touch_and_delete"]
        |inner, _clock| Reviving { inner };
    /// Reads the deadline for `Keep` before the write, and undoes a `touch` in between.
    keep_undoes_a_touch: "S-1"
        ["neighbours/touch_and_keep"]
        |inner, _clock| OldDeadline { inner };
    /// Reads the deadline of a counter before the increment, and undoes a `touch` in between.
    increment_undoes_a_touch: "C-1"
        ["neighbours/touch_and_increment"]
        |inner, _clock| OldDeadlineOfCounter { inner };
    /// Reads the previous entry before the write, so that two writers may get the same previous entry.
    previous_is_read_before: "S-2"
        ["neighbours/each_entry_is_previous_once"]
        |inner, _clock| PreviousBefore { inner };
    /// Reads the entry and deletes it afterwards, so that two callers may take one entry.
    entry_is_taken_twice: "D-1"
        ["neighbours/one_of_twenty_takers_gets_it"]
        |inner, _clock| TakenTwice { inner };
    /// Reads the current entry of a refusal after the condition was evaluated.
    refusal_reads_the_current_entry_later: "S-2"
        ["neighbours/refusals_show_the_refusing_entry"]
        |inner, _clock| LateCurrent { inner };
    /// Returns the previous entry without its version and its deadline.
    previous_is_a_bare_value: "S-2"
        ["conditions/previous_is_what_was_replaced"]
        |inner, _clock| BareEntries { inner, of_refusals: false };
    /// Returns the current entry of a refusal without its version and its deadline.
    current_is_a_bare_value: "S-2"
        ["conditions/absent_is_refused_over_live"]
        |inner, _clock| BareEntries { inner, of_refusals: true };
    /// Returns an error of `increment` without the key.
    increment_errors_have_no_key: "E-1"
        ["neighbours/errors_of_increments"]
        |inner, _clock| NoKeyInErrors { inner };
}

/// Lets other tasks run, as a store does during a round trip.
async fn pause() {
    for _ in 0..4 {
        tokio::task::yield_now().await;
    }
}

#[derive(Debug)]
struct FailsTogether {
    inner: Arc<dyn KvStore>,
    failures: AtomicU64,
}

impl FailsTogether {
    /// Waits for the batch, and fails if another call of the batch failed.
    async fn join(&self) -> Result<()> {
        let before = self.failures.load(Ordering::Acquire);
        pause().await;
        if self.failures.load(Ordering::Acquire) == before {
            return Ok(());
        }
        Err(Error::unavailable("the batch was rolled back"))
    }
}

#[async_trait]
impl KvStore for FailsTogether {
    delegate_store!(self.inner, except set increment);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        if self.info().limits.check_value(value.len()).is_err() {
            self.failures.fetch_add(1, Ordering::AcqRel);
            return self.inner.set(key, value, options).await;
        }
        self.join().await?;
        self.inner.set(key, value, options).await
    }

    async fn increment(&self, key: &Key, by: i64, options: &IncrementOptions) -> Result<i64> {
        let sum = self.inner.increment(key, by, options).await;
        if sum.is_err() {
            self.failures.fetch_add(1, Ordering::AcqRel);
        }
        sum
    }
}

#[derive(Debug)]
struct RollsBackTogether {
    inner: Arc<dyn KvStore>,
    refusals: AtomicU64,
}

#[async_trait]
impl KvStore for RollsBackTogether {
    delegate_store!(self.inner, except set);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        if options.when != When::Always {
            let outcome = self.inner.set(key, value, options).await?;
            self.refusals.fetch_add(u64::from(!outcome.is_stored()), Ordering::AcqRel);
            return Ok(outcome);
        }
        let before = self.refusals.load(Ordering::Acquire);
        pause().await;
        if self.refusals.load(Ordering::Acquire) != before {
            return Ok(SetOutcome::Stored { version: Some(Version::random()), previous: None });
        }
        self.inner.set(key, value, options).await
    }
}

#[derive(Debug)]
struct Reviving {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for Reviving {
    delegate_store!(self.inner, except touch);

    async fn touch(&self, key: &Key, expiry: NewExpiry) -> Result<bool> {
        let Some(entry) = self.inner.get(key).await? else { return Ok(false) };
        pause().await;
        if !self.inner.touch(key, expiry).await? {
            let _ = self.inner.set(key, entry.value, &SetOptions::default().with_expiry(expiry.into())).await?;
        }
        Ok(true)
    }
}

#[derive(Debug)]
struct OldDeadline {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for OldDeadline {
    delegate_store!(self.inner, except set);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        if options.expiry != Expiry::Keep {
            return self.inner.set(key, value, options).await;
        }
        let old = self.inner.get(key).await?.map_or(Expires::Never, |entry| entry.expires);
        pause().await;
        self.inner.set(key, value, &options.clone().with_expiry(old.into())).await
    }
}

#[derive(Debug)]
struct OldDeadlineOfCounter {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for OldDeadlineOfCounter {
    delegate_store!(self.inner, except increment);

    async fn increment(&self, key: &Key, by: i64, options: &IncrementOptions) -> Result<i64> {
        let old = self.inner.get(key).await?.map(|entry| entry.expires);
        pause().await;
        let sum = self.inner.increment(key, by, options).await?;
        match old {
            Some(Expires::At(deadline)) => self.inner.touch(key, NewExpiry::At(deadline)).await?,
            Some(_) => self.inner.touch(key, NewExpiry::Never).await?,
            None => true,
        };
        Ok(sum)
    }
}

#[derive(Debug)]
struct PreviousBefore {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for PreviousBefore {
    delegate_store!(self.inner, except set);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        if !options.return_previous {
            return self.inner.set(key, value, options).await;
        }
        let before = self.inner.get(key).await?;
        pause().await;
        Ok(match self.inner.set(key, value, options).await? {
            SetOutcome::Stored { version, .. } => SetOutcome::Stored { version, previous: before },
            refused @ SetOutcome::Refused { .. } => refused,
        })
    }
}

#[derive(Debug)]
struct TakenTwice {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for TakenTwice {
    delegate_store!(self.inner, except delete);

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
        if !options.return_previous || options.when != When::Always {
            return self.inner.delete(key, options).await;
        }
        let before = self.inner.get(key).await?;
        pause().await;
        let outcome = self.inner.delete(key, options).await?;
        Ok(match before {
            Some(entry) => DeleteOutcome::Deleted { previous: Some(entry) },
            None => outcome,
        })
    }
}

#[derive(Debug)]
struct LateCurrent {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for LateCurrent {
    delegate_store!(self.inner, except set);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        let outcome = self.inner.set(key, value, options).await?;
        if outcome.is_stored() {
            return Ok(outcome);
        }
        pause().await;
        Ok(SetOutcome::Refused { current: self.inner.get(key).await? })
    }
}

/// Returns entries of outcomes without version and deadline.
#[derive(Debug)]
struct BareEntries {
    inner: Arc<dyn KvStore>,
    /// True for the current entries of refusals, false for previous entries.
    of_refusals: bool,
}

fn bare(entry: Option<Entry>) -> Option<Entry> {
    entry.map(|entry| Entry::new(entry.value))
}

#[async_trait]
impl KvStore for BareEntries {
    delegate_store!(self.inner, except set delete);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        Ok(match self.inner.set(key, value, options).await? {
            SetOutcome::Stored { version, previous } if !self.of_refusals => {
                SetOutcome::Stored { version, previous: bare(previous) }
            }
            SetOutcome::Refused { current } if self.of_refusals => SetOutcome::Refused { current: bare(current) },
            outcome => outcome,
        })
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
        Ok(match self.inner.delete(key, options).await? {
            DeleteOutcome::Deleted { previous } if !self.of_refusals => {
                DeleteOutcome::Deleted { previous: bare(previous) }
            }
            DeleteOutcome::Refused { current } if self.of_refusals => DeleteOutcome::Refused { current: bare(current) },
            outcome => outcome,
        })
    }
}

#[derive(Debug)]
struct NoKeyInErrors {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for NoKeyInErrors {
    delegate_store!(self.inner, except increment);

    async fn increment(&self, key: &Key, by: i64, options: &IncrementOptions) -> Result<i64> {
        self.inner.increment(key, by, options).await.map_err(|error| {
            let mut bare = Error::new(error.kind(), error.message().to_owned());
            if let Some(operation) = error.operation() {
                bare = bare.with_operation(operation);
            }
            match error.backend() {
                Some(backend) => bare.with_backend(backend.to_owned()),
                None => bare,
            }
        })
    }
}
