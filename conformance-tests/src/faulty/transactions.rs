//! Transactions that are applied in pieces, or out of order.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kv_core::{Capability, CommitOutcome, Error, Expiry, KvStore, Mutation, Result, Transaction, When, delegate_store};

use super::conditions::stall;
use super::faults;

faults! { transactions:
    applied_in_steps: "X-1" "applies one mutation after the other, so that a reader sees half"
        ["atomicity/batches_see_no_mixture_backwards", "atomicity/deletions_are_seen_together",
         "atomicity/readers_never_see_half", "cancel/commit"]
        |inner, _clock| Stepwise { inner, checks_first: true, pauses: true };
    applied_without_a_lock: "X-1" "writes its mutations into a file one after the other, without a lock over all of them"
        ["atomicity/readers_never_see_half"]
        |inner, _clock| Stepwise { inner, checks_first: true, pauses: false };
    checked_in_steps: "X-1" "judges a check when it gets to it, and leaves what it applied before"
        ["atomicity/batches_see_no_mixture_backwards", "shared/transactions_lose_no_update", "processes/transactions_lose_no_update"]
        |inner, _clock| Stepwise { inner, checks_first: false, pauses: true };
    checks_are_ignored: "X-1" "applies the mutations whatever the checks say"
        ["transactions/checks_see_what_was_before", "atomicity/one_of_many_wins", "shared/transactions_hold_across", "processes/transactions_hold_across",
         "transactions/absent_is_checked", "transactions/value_is_checked"]
        |inner, _clock| Changed { inner, change: |transaction| transaction.checks.clear() };
    only_the_first_check_counts: "X-1" "judges the first check alone"
        ["transactions/checks_alone_are_judged", "transactions/first_failed_check_is_named",
         "transactions/nothing_is_applied"]
        |inner, _clock| Changed { inner, change: |transaction| transaction.checks.truncate(1) };
    deletes_come_first: "X-1" "applies all deletes and then all sets"
        ["transactions/set_then_delete_leaves_nothing"]
        |inner, _clock| Changed { inner, change: |transaction| {
            transaction.mutations.sort_by_key(|mutation| matches!(mutation, Mutation::Set { .. }));
        } };
    deletes_come_last: "X-1" "applies all sets and then all deletes"
        ["transactions/delete_then_set_leaves_the_value", "random/transactions"]
        |inner, _clock| Changed { inner, change: |transaction| {
            transaction.mutations.sort_by_key(|mutation| matches!(mutation, Mutation::Delete { .. }));
        } };
    overwrites_stay_mortal: "S-1" "a set without time to live inside a transaction keeps the old deadline"
        ["transactions/set_without_ttl_is_permanent"]
        |inner, _clock| Changed { inner, change: |transaction| {
            for mutation in &mut transaction.mutations {
                if let Mutation::Set { expiry: expiry @ Expiry::Never, .. } = mutation {
                    *expiry = Expiry::Keep;
                }
            }
        } };
    values_are_cut: "X-1" "cuts values inside a transaction off at 64 KiB"
        ["transactions/large_values"]
        |inner, _clock| Changed { inner, change: |transaction| {
            for mutation in &mut transaction.mutations {
                if let Mutation::Set { value, .. } = mutation {
                    value.truncate(1 << 16);
                }
            }
        } };
    the_first_set_of_a_key_stands: "X-1" "keeps one set for each key, the first"
        ["transactions/last_set_of_a_key_stands"]
        |inner, _clock| Changed { inner, change: |transaction| {
            let mut seen = HashSet::new();
            transaction.mutations.retain(|mutation| seen.insert(mutation.key().clone()));
        } };
    too_large_is_left_out: "V-3" "applies a transaction without the value that is over the limit"
        ["transactions/value_over_the_limit_is_invalid"]
        |inner, _clock| LeftOut { inner };
    empty_ones_fail: "X-1" "makes an error of a transaction of nothing"
        ["transactions/empty_transaction_is_fine", "refuses/errors_say_what_is_missing"]
        |inner, _clock| Picky { inner, is_refused: |transaction| transaction.mutations.is_empty() };
    reach_one_group_only: "X-1" "declares any keys, and takes those with one first segment only"
        ["transactions/reaches_as_far_as_declared"]
        |inner, _clock| Picky { inner, is_refused: |transaction| {
            let mut firsts = transaction.keys().map(|key| key.segments().next());
            firsts.next().is_some_and(|first| firsts.any(|other| other != first))
        } };
    deletes_need_an_entry: "X-1" "refuses a transaction that deletes what is not there"
        ["transactions/delete_then_set_leaves_the_value"]
        |inner, _clock| Changed { inner, change: |transaction| {
            for mutation in &transaction.mutations {
                if let Mutation::Delete { key } = mutation {
                    let check = Transaction::new().check(key.clone(), When::Present).checks;
                    transaction.checks.extend(check);
                }
            }
        } };
    one_at_a_time: "X-1" "refuses a transaction while another is at work on other keys"
        ["atomicity/opposite_orders_do_not_block", "atomicity/disjoint_writers_do_not_conflict",
         "atomicity/unchecked_writers_leave_one_of_them"]
        |inner, _clock| Lone { inner, busy: tokio::sync::Mutex::default() };
    tells_versions_of_sets_only: "X-1" "gives a version for each set, and nothing for a delete"
        ["transactions/outcome_is_as_long_as_the_transaction", "transactions/delete_of_a_missing_key_is_fine"]
        |inner, _clock| SetVersions { inner };
    names_the_last_check: "X-1" "names the last check of a refused transaction, whichever failed"
        ["transactions/two_hundred_keys"]
        |inner, _clock| LastCheck { inner };
    gives_no_versions: "X-1" "commits without telling the versions"
        ["transactions/versions_are_one_per_mutation", "versions/commit_gives_new_versions"]
        |inner, _clock| Versionless { inner };
}

#[derive(Debug)]
struct Stepwise {
    inner: Arc<dyn KvStore>,
    checks_first: bool,
    /// Whether others come in between however few threads there are.
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
            // What a check of the second key finds comes too late for the first.
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
                stall().await;
            } else {
                written();
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

/// Takes as long as a write does. No other task of this thread comes in between.
#[expect(clippy::disallowed_methods, reason = "the whole thread waits, as in a call of the system")]
fn written() {
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

/// Makes an error of what it does not like.
struct Picky {
    inner: Arc<dyn KvStore>,
    is_refused: fn(&Transaction) -> bool,
}

impl fmt::Debug for Picky {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Picky").finish_non_exhaustive()
    }
}

#[async_trait]
impl KvStore for Picky {
    delegate_store!(self.inner, except commit);

    async fn commit(&self, transaction: &Transaction) -> Result<CommitOutcome> {
        if (self.is_refused)(transaction) {
            return Err(Error::unsupported(Capability::Transactions));
        }
        self.inner.commit(transaction).await
    }
}

#[derive(Debug)]
struct Lone {
    inner: Arc<dyn KvStore>,
    busy: tokio::sync::Mutex<()>,
}

#[async_trait]
impl KvStore for Lone {
    delegate_store!(self.inner, except commit);

    async fn commit(&self, transaction: &Transaction) -> Result<CommitOutcome> {
        let Ok(_alone) = self.busy.try_lock() else { return Ok(CommitOutcome::Refused { check: 0 }) };
        stall().await;
        self.inner.commit(transaction).await
    }
}

#[derive(Debug)]
struct SetVersions {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for SetVersions {
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
struct LastCheck {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for LastCheck {
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
struct Versionless {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for Versionless {
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
struct LeftOut {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for LeftOut {
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
