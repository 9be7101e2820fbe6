//! Calls that are correct alone, and wrong during a concurrent call.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use kv_core::{
    CommitOutcome, DeleteOptions, DeleteOutcome, Entry, Error, Expires, Expiry, IncrementOptions, Key, KvStore,
    NewExpiry, Result, SetOptions, SetOutcome, Transaction, When, delegate_store,
};

use super::conditions::yield_to_others;
use super::faults;

faults! { together:
    /// Reads the previous entry before the write, in a step of its own.
    previous_is_of_an_earlier_write: "G-2"
        ["races/histories_of_every_call_are_linearizable", "concurrency/histories_of_every_call_are_linearizable", "random/conditions_together"]
        |inner, _clock| TwoSteps { inner, kind: TwoStep::Previous };
    /// Returns the removed entry to every caller that read it before the delete.
    two_callers_take_one_entry: "G-2"
        ["races/histories_of_every_call_are_linearizable", "concurrency/histories_of_every_call_are_linearizable", "processes/histories_of_every_call_are_linearizable", "random/conditions_together"]
        |inner, _clock| TwoSteps { inner, kind: TwoStep::Take };
    /// Reads the deadline for `Keep` before a concurrent `touch`, and writes this deadline after the `touch`.
    keep_reads_the_deadline_early: "S-1"
        ["concurrency/histories_of_every_call_with_expiry_are_linearizable", "random/lives_together"]
        |inner, _clock| TwoSteps { inner, kind: TwoStep::Keep };
    /// Reads the deadline before the addition in `increment`, and writes this deadline after the addition.
    increment_restores_an_old_deadline: "S-1"
        ["random/lives_together", "concurrency/histories_of_every_call_with_expiry_are_linearizable"]
        |inner, _clock| TwoSteps { inner, kind: TwoStep::Increment };
    /// Evaluates, in a separate step, the condition of a delete that returns the previous entry.
    conditional_take_is_not_atomic: "G-2"
        ["races/histories_of_every_call_are_linearizable"]
        |inner, _clock| TwoSteps { inner, kind: TwoStep::ConditionalTake };
    /// Fails a whole batch of concurrent writes if one increment in it fails.
    failed_increment_fails_its_neighbours: "G-2"
        ["races/histories_of_every_call_are_linearizable", "random/lives_together"]
        |inner, _clock| Batched::new(inner, Neighbours::FailBesideInvalid);
    /// Acknowledges the sets of a batch that it rolled back because an increment in the batch failed.
    failed_increment_undoes_its_neighbours: "S-1"
        ["random/lives_together"]
        |inner, _clock| Batched::new(inner, Neighbours::UndoBesideInvalid);
    /// Acknowledges the sets of a batch that it rolled back because a condition in the batch did not hold.
    refused_set_undoes_its_neighbours: "S-2"
        ["random/conditions_together", "random/counters_together", "random/transactions_together"]
        |inner, _clock| Batched::new(inner, Neighbours::UndoBesideRefused);
    /// Acknowledges the sets of a batch that it rolled back with a refused transaction.
    refused_transaction_undoes_its_neighbours: "X-1"
        ["random/transactions_together"]
        |inner, _clock| Batched::new(inner, Neighbours::UndoBesideRefusedCommit);
    /// Answers a refused set with the outcome of a neighbour in its batch.
    outcomes_of_a_batch_are_swapped: "S-2"
        ["random/conditions_together", "random/counters_together", "random/transactions_together"]
        |inner, _clock| Batched::new(inner, Neighbours::RefuseBesideRefused);
}

/// The operation that takes two steps instead of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TwoStep {
    Previous,
    Take,
    ConditionalTake,
    Keep,
    Increment,
}

/// Reads in a first step and writes in a second step, and lets other calls run in between.
#[derive(Debug)]
struct TwoSteps {
    inner: Arc<dyn KvStore>,
    kind: TwoStep,
}

impl TwoSteps {
    /// The first step.
    async fn read(&self, key: &Key) -> Result<Option<Entry>> {
        let entry = self.inner.get(key).await?;
        yield_to_others().await;
        Ok(entry)
    }
}

/// The deadline of the entry as an expiry.
fn expiry_of(entry: Option<&Entry>) -> Expiry {
    match entry.map(|entry| entry.expires) {
        Some(Expires::At(deadline)) => Expiry::At(deadline),
        _ => Expiry::Never,
    }
}

#[async_trait]
impl KvStore for TwoSteps {
    delegate_store!(self.inner, except set set_many delete increment);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        if self.kind == TwoStep::Previous && options.return_previous {
            let read = self.read(key).await?;
            return Ok(match self.inner.set(key, value, options).await? {
                SetOutcome::Stored { version, .. } => SetOutcome::Stored { version, previous: read },
                refused @ SetOutcome::Refused { .. } => refused,
            });
        }
        if self.kind == TwoStep::Keep && options.expiry == Expiry::Keep {
            let read = self.read(key).await?;
            return self.inner.set(key, value, &options.clone().with_expiry(expiry_of(read.as_ref()))).await;
        }
        self.inner.set(key, value, options).await
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
        if self.kind == TwoStep::Take && options.return_previous && options.when == When::Always {
            let read = self.read(key).await?;
            let outcome = self.inner.delete(key, options).await?;
            return Ok(if read.is_some() { DeleteOutcome::Deleted { previous: read } } else { outcome });
        }
        if self.kind == TwoStep::ConditionalTake && options.return_previous && options.when != When::Always {
            let read = self.read(key).await?;
            if !options.when.holds(read.as_ref()) {
                return Ok(DeleteOutcome::Refused { current: read });
            }
            return self.inner.delete(key, &options.clone().with_when(When::Always)).await;
        }
        self.inner.delete(key, options).await
    }

    async fn increment(&self, key: &Key, by: i64, options: &IncrementOptions) -> Result<i64> {
        if self.kind != TwoStep::Increment {
            return self.inner.increment(key, by, options).await;
        }
        let read = self.read(key).await?;
        let sum = self.inner.increment(key, by, options).await?;
        if let Some(entry) = read {
            let deadline = match entry.expires {
                Expires::At(deadline) => NewExpiry::At(deadline),
                _ => NewExpiry::Never,
            };
            self.inner.touch(key, deadline).await?;
        }
        Ok(sum)
    }
}

/// The effect of one failed call on concurrent plain sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Neighbours {
    FailBesideInvalid,
    UndoBesideInvalid,
    UndoBesideRefused,
    UndoBesideRefusedCommit,
    RefuseBesideRefused,
}

/// Sets wait for a batch. A call that fails during that time changes the result of the sets.
#[derive(Debug)]
struct Batched {
    inner: Arc<dyn KvStore>,
    kind: Neighbours,
    /// The number of failed calls that affect waiting sets.
    failures: AtomicU64,
}

impl Batched {
    fn new(inner: Arc<dyn KvStore>, kind: Neighbours) -> Self {
        Self { inner, kind, failures: AtomicU64::new(0) }
    }

    fn fail(&self, kinds: &[Neighbours]) {
        if kinds.contains(&self.kind) {
            self.failures.fetch_add(1, Ordering::SeqCst);
        }
    }
}

#[async_trait]
impl KvStore for Batched {
    delegate_store!(self.inner, except set set_many increment commit);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        if *options != SetOptions::default() {
            let outcome = self.inner.set(key, value, options).await?;
            if !outcome.is_stored() {
                self.fail(&[Neighbours::UndoBesideRefused, Neighbours::RefuseBesideRefused]);
            }
            return Ok(outcome);
        }
        let before = self.failures.load(Ordering::SeqCst);
        yield_to_others().await;
        if self.failures.load(Ordering::SeqCst) == before {
            return self.inner.set(key, value, options).await;
        }
        match self.kind {
            Neighbours::FailBesideInvalid => Err(Error::invalid("the value is not a number")),
            Neighbours::RefuseBesideRefused => Ok(SetOutcome::Refused { current: self.inner.get(key).await? }),
            _ => {
                let former = self.inner.get(key).await?;
                let outcome = self.inner.set(key, value, options).await?;
                if former.is_none() {
                    let _ = self.inner.delete(key, &DeleteOptions::default()).await?;
                }
                Ok(outcome)
            }
        }
    }

    async fn increment(&self, key: &Key, by: i64, options: &IncrementOptions) -> Result<i64> {
        let result = self.inner.increment(key, by, options).await;
        if result.is_err() {
            self.fail(&[Neighbours::FailBesideInvalid, Neighbours::UndoBesideInvalid]);
        }
        result
    }

    async fn commit(&self, transaction: &Transaction) -> Result<CommitOutcome> {
        let outcome = self.inner.commit(transaction).await?;
        if !outcome.is_committed() {
            self.fail(&[Neighbours::UndoBesideRefusedCommit]);
        }
        Ok(outcome)
    }
}
