//! Transactions that are not atomic, evaluate checks wrongly, run out of order or return the wrong outcome.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kv_core::{Capability, CommitOutcome, Error, Expiry, KvStore, Mutation, Result, Transaction, When, delegate_store};

use super::conditions::yield_to_others;
use super::faults;

faults! { transactions:
    /// Applies one mutation after the other, so a reader sees half of a transaction.
    applied_in_steps: "X-1"
        ["atomicity/batches_see_no_mixture_backwards", "atomicity/deletions_are_seen_together",
         "atomicity/readers_never_see_half", "cancel/commit"]
        |inner, _clock| Stepwise { inner, checks_first: true, pauses: true };
    /// Writes its mutations into a file one after the other, without a lock around all of them.
    applied_without_a_lock: "X-1"
        ["atomicity/readers_never_see_half"]
        |inner, _clock| Stepwise { inner, checks_first: true, pauses: false };
    /// Evaluates the later checks after the first mutation, and does not roll that mutation back.
    checked_in_steps: "X-1"
        ["atomicity/batches_see_no_mixture_backwards", "shared/transactions_lose_no_update",
         "processes/transactions_lose_no_update"]
        |inner, _clock| Stepwise { inner, checks_first: false, pauses: true };
    /// Applies the mutations even if a check fails.
    checks_are_ignored: "X-1"
        ["transactions/checks_see_what_was_before", "atomicity/one_of_many_wins", "shared/transactions_hold_across",
         "processes/transactions_hold_across", "transactions/absent_is_checked", "transactions/value_is_checked"]
        |inner, _clock| Changed { inner, change: |transaction| transaction.checks.clear() };
    /// Evaluates only the first check.
    only_the_first_check_is_evaluated: "X-1"
        ["transactions/checks_alone_are_judged", "transactions/first_failed_check_is_named",
         "transactions/nothing_is_applied"]
        |inner, _clock| Changed { inner, change: |transaction| transaction.checks.truncate(1) };
    /// Applies all deletes before all sets.
    deletes_run_first: "X-1"
        ["transactions/set_then_delete_leaves_nothing"]
        |inner, _clock| Changed { inner, change: |transaction| {
            transaction.mutations.sort_by_key(|mutation| matches!(mutation, Mutation::Set { .. }));
        } };
    /// Applies all sets before all deletes.
    deletes_run_last: "X-1"
        ["transactions/delete_then_set_leaves_the_value", "random/transactions"]
        |inner, _clock| Changed { inner, change: |transaction| {
            transaction.mutations.sort_by_key(|mutation| matches!(mutation, Mutation::Delete { .. }));
        } };
    /// Keeps the old deadline when a set in a transaction has no time to live.
    set_without_ttl_keeps_the_deadline: "S-1"
        ["transactions/set_without_ttl_is_permanent"]
        |inner, _clock| Changed { inner, change: |transaction| {
            for mutation in &mut transaction.mutations {
                if let Mutation::Set { expiry: expiry @ Expiry::Never, .. } = mutation {
                    *expiry = Expiry::Keep;
                }
            }
        } };
    /// Truncates values in a transaction at 64 KiB.
    values_are_truncated: "X-1"
        ["transactions/large_values"]
        |inner, _clock| Changed { inner, change: |transaction| {
            for mutation in &mut transaction.mutations {
                if let Mutation::Set { value, .. } = mutation {
                    value.truncate(1 << 16);
                }
            }
        } };
    /// Applies only the first mutation of each key.
    later_mutations_of_a_key_are_dropped: "X-1"
        ["large_transactions/hundreds_of_sets_of_one_key", "transactions/last_set_of_a_key_stands"]
        |inner, _clock| Changed { inner, change: |transaction| {
            let mut seen = HashSet::new();
            transaction.mutations.retain(|mutation| seen.insert(mutation.key().clone()));
        } };
    /// Applies a transaction without the values that are over the limit.
    oversized_values_are_skipped: "V-3"
        ["transactions/value_over_the_limit_is_invalid"]
        |inner, _clock| SkipsOversized { inner };
    /// Returns an error for a transaction without mutations.
    empty_transactions_fail: "X-1"
        ["transactions/empty_transaction_is_fine", "refuses/errors_say_what_is_missing"]
        |inner, _clock| Rejecting { inner, is_rejected: |transaction| transaction.mutations.is_empty() };
    /// Declares transactions over any keys, but accepts only keys with the same first segment.
    keys_of_one_group_only: "X-1"
        ["transactions/reaches_as_far_as_declared"]
        |inner, _clock| Rejecting { inner, is_rejected: |transaction| {
            let mut firsts = transaction.keys().map(|key| key.segments().next());
            firsts.next().is_some_and(|first| firsts.any(|other| other != first))
        } };
    /// Refuses a transaction that deletes a missing key.
    delete_of_a_missing_key_is_refused: "X-1"
        ["transactions/delete_then_set_leaves_the_value"]
        |inner, _clock| Changed { inner, change: |transaction| {
            for mutation in &transaction.mutations {
                if let Mutation::Delete { key } = mutation {
                    let check = Transaction::new().check(key.clone(), When::Present).checks;
                    transaction.checks.extend(check);
                }
            }
        } };
    /// Refuses a transaction while another transaction runs, even if the two have no key in common.
    concurrent_transactions_are_refused: "X-1"
        ["atomicity/opposite_orders_do_not_block", "atomicity/disjoint_writers_do_not_conflict",
         "atomicity/unchecked_writers_leave_one_of_them"]
        |inner, _clock| OneAtATime { inner, busy: tokio::sync::Mutex::default() };
    /// Returns versions for sets only, so the list is shorter than the transaction if it has deletes.
    versions_omit_deletes: "X-1"
        ["transactions/outcome_is_as_long_as_the_transaction", "transactions/delete_of_a_missing_key_is_fine"]
        |inner, _clock| VersionsOfSetsOnly { inner };
    /// Names the last check of a refused transaction, even if another check failed.
    refusal_names_the_last_check: "X-1"
        ["transactions/two_hundred_keys"]
        |inner, _clock| NamesLastCheck { inner };
    /// Commits, but returns no versions.
    versions_are_missing: "X-1"
        ["transactions/versions_are_one_per_mutation", "versions/commit_gives_new_versions"]
        |inner, _clock| WithoutVersions { inner };
}

#[derive(Debug)]
struct Stepwise {
    inner: Arc<dyn KvStore>,
    checks_first: bool,
    /// True to yield between the mutations, so that other tasks run in between on any number of threads.
    pauses: bool,
}

#[async_trait]
impl KvStore for Stepwise {
    delegate_store!(self.inner, except commit);

    async fn commit(&self, transaction: &Transaction) -> Result<CommitOutcome> {
        transaction.validate(&self.info().capabilities, &self.info().limits)?;
        let mut first = transaction.clone();
        let mut rest = first.mutations.split_off(first.mutations.len().min(1));
        if !self.checks_first {
            // The later checks are evaluated after the first mutation has been applied.
            first.checks.truncate(1);
        }
        let mut versions = match self.inner.commit(&first).await? {
            CommitOutcome::Committed { versions } => versions,
            refused @ CommitOutcome::Refused { .. } => return Ok(refused),
        };
        if !self.checks_first {
            let mut late = Transaction::new();
            late.checks = transaction.checks.iter().skip(1).cloned().collect();
            if let CommitOutcome::Refused { check } = self.inner.commit(&late).await? {
                return Ok(CommitOutcome::Refused { check: check + 1 });
            }
        }
        for mutation in rest.drain(..) {
            if self.pauses {
                yield_to_others().await;
            } else {
                block_like_a_write();
            }
            let mut step = Transaction::new();
            step.mutations.push(mutation);
            if let CommitOutcome::Committed { versions: more } = self.inner.commit(&step).await? {
                versions.extend(more);
            }
        }
        Ok(CommitOutcome::Committed { versions })
    }
}

/// Blocks the thread for as long as a write does. No other task runs on this thread during that time.
#[expect(clippy::disallowed_methods, reason = "blocks the whole thread, as a system call does")]
fn block_like_a_write() {
    std::thread::sleep(Duration::from_micros(50));
}

/// Changes the transaction before it is applied.
struct Changed {
    inner: Arc<dyn KvStore>,
    change: fn(&mut Transaction),
}

impl fmt::Debug for Changed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changed").finish_non_exhaustive()
    }
}

#[async_trait]
impl KvStore for Changed {
    delegate_store!(self.inner, except commit);

    async fn commit(&self, transaction: &Transaction) -> Result<CommitOutcome> {
        let mut changed = transaction.clone();
        (self.change)(&mut changed);
        self.inner.commit(&changed).await
    }
}

/// Returns an error for the transactions that `is_rejected` selects.
struct Rejecting {
    inner: Arc<dyn KvStore>,
    is_rejected: fn(&Transaction) -> bool,
}

impl fmt::Debug for Rejecting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rejecting").finish_non_exhaustive()
    }
}

#[async_trait]
impl KvStore for Rejecting {
    delegate_store!(self.inner, except commit);

    async fn commit(&self, transaction: &Transaction) -> Result<CommitOutcome> {
        if (self.is_rejected)(transaction) {
            return Err(Error::unsupported(Capability::Transactions));
        }
        self.inner.commit(transaction).await
    }
}

#[derive(Debug)]
struct OneAtATime {
    inner: Arc<dyn KvStore>,
    busy: tokio::sync::Mutex<()>,
}

#[async_trait]
impl KvStore for OneAtATime {
    delegate_store!(self.inner, except commit);

    async fn commit(&self, transaction: &Transaction) -> Result<CommitOutcome> {
        let Ok(_alone) = self.busy.try_lock() else { return Ok(CommitOutcome::Refused { check: 0 }) };
        yield_to_others().await;
        self.inner.commit(transaction).await
    }
}

#[derive(Debug)]
struct VersionsOfSetsOnly {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for VersionsOfSetsOnly {
    delegate_store!(self.inner, except commit);

    async fn commit(&self, transaction: &Transaction) -> Result<CommitOutcome> {
        Ok(match self.inner.commit(transaction).await? {
            CommitOutcome::Committed { versions } => {
                CommitOutcome::Committed { versions: versions.into_iter().flatten().map(Some).collect() }
            }
            refused @ CommitOutcome::Refused { .. } => refused,
        })
    }
}

#[derive(Debug)]
struct NamesLastCheck {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for NamesLastCheck {
    delegate_store!(self.inner, except commit);

    async fn commit(&self, transaction: &Transaction) -> Result<CommitOutcome> {
        Ok(match self.inner.commit(transaction).await? {
            CommitOutcome::Refused { .. } => {
                CommitOutcome::Refused { check: transaction.checks.len().saturating_sub(1) }
            }
            committed @ CommitOutcome::Committed { .. } => committed,
        })
    }
}

#[derive(Debug)]
struct WithoutVersions {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for WithoutVersions {
    delegate_store!(self.inner, except commit);

    async fn commit(&self, transaction: &Transaction) -> Result<CommitOutcome> {
        Ok(match self.inner.commit(transaction).await? {
            CommitOutcome::Committed { versions } => {
                CommitOutcome::Committed { versions: versions.into_iter().map(|_| None).collect() }
            }
            refused @ CommitOutcome::Refused { .. } => refused,
        })
    }
}

#[derive(Debug)]
struct SkipsOversized {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for SkipsOversized {
    delegate_store!(self.inner, except commit);

    async fn commit(&self, transaction: &Transaction) -> Result<CommitOutcome> {
        let mut transaction = transaction.clone();
        let limits = self.info().limits;
        transaction.mutations.retain(|mutation| match mutation {
            Mutation::Set { value, .. } => limits.check_value(value.len()).is_ok(),
            _ => true,
        });
        self.inner.commit(&transaction).await
    }
}
