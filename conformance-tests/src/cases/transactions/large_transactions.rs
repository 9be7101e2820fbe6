//! Transactions with hundreds of checks and mutations.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kv_core::{Capability, CommitOutcome, Expiry, Key, KvStore, Transaction, Version, When};

use crate::case::{Need, cases};
use crate::context::{Context, key};
use crate::failure::{Failure, Verdict, ensure, ensure_eq};
use crate::tasks::clients;

const TRANSACTIONS: Need = Need::Has(Capability::Transactions);
const VERSIONS: Need = Need::Has(Capability::Versions);

cases! { large_transactions, Transactions:
    are_seen_whole: "X-1" [TRANSACTIONS, Need::KeepsAll] "after a reader saw one effect of a transaction of 101 to 1,000 mutations, it sees all effects of the transaction, or newer values";
    a_thousand_mutations: "X-1" [TRANSACTIONS, Need::KeepsAll] "a transaction of 1,000 sets and a transaction of 1,000 deletes are applied completely";
    hundreds_of_checks: "X-1" [TRANSACTIONS, Need::KeepsAll] "each of 300 checks of a transaction is evaluated, and a refusal names the check that failed";
    hundreds_of_sets_of_one_key: "X-1" [TRANSACTIONS] "of 300 sets and deletes of one key in a transaction, the last mutation wins";
    each_set_has_its_own_version: "S-3" [TRANSACTIONS, VERSIONS] "several sets of a key in one transaction have different versions";
}

/// A key in the single transaction group of this file.
fn grouped(name: u64) -> Key {
    key(["g", "g", "g", "g", &Key::ordered(name)])
}

/// A transaction that sets this number of keys, from `first` on, to the value.
fn sets(first: u64, count: u64, value: u64) -> Transaction {
    (first..first + count)
        .fold(Transaction::new(), |all, name| all.set(grouped(name), value.to_string(), Expiry::Never))
}

async fn commit(cx: &Context, transaction: &Transaction) -> Result<Vec<Option<Version>>, Failure> {
    match cx.store().commit(transaction).await? {
        CommitOutcome::Committed { versions } => Ok(versions),
        refused @ CommitOutcome::Refused { .. } => Err(Failure::new(format!(
            "expected `commit` of {} mutations to be committed, but it returned {refused:?}",
            transaction.mutations.len()
        ))),
    }
}

async fn are_seen_whole(cx: Context) -> Verdict {
    const READERS: usize = 2;
    for count in [101, 250, 1_000] {
        // Each size has its own keys.
        let (start, end) = (count * 10, count * 11 - 1);
        let has_ended = Arc::new(AtomicBool::new(false));
        clients(&cx, READERS + 1, move |cx, client| {
            let has_ended = Arc::clone(&has_ended);
            async move {
                if client == READERS {
                    let outcome = write_rounds(&cx, start, count).await;
                    has_ended.store(true, Ordering::Release);
                    return outcome;
                }
                // One reader reads in the order of the mutations, the other reader in reverse order.
                let (first, then) = if client == 0 { (start, end) } else { (end, start) };
                while !has_ended.load(Ordering::Acquire) {
                    let seen = number(&cx, first).await?;
                    let after = number(&cx, then).await?;
                    ensure!(
                        after >= seen,
                        "`get` of an end of a transaction of {count} sets returned the value of transaction {seen}, but \
                         then `get` of its other end returned that of the earlier transaction {after}"
                    );
                    tokio::task::yield_now().await;
                }
                Ok(())
            }
        })
        .await?;
    }
    Ok(())
}

async fn write_rounds(cx: &Context, first: u64, count: u64) -> Verdict {
    for round in 1..=5 {
        commit(cx, &sets(first, count, round)).await?;
        tokio::task::yield_now().await;
    }
    Ok(())
}

/// The number that the key holds, or zero if it is absent.
async fn number(cx: &Context, name: u64) -> Result<u64, Failure> {
    let Some(value) = cx.get(grouped(name)).await? else { return Ok(0) };
    let number = std::str::from_utf8(&value).ok().and_then(|text| text.parse().ok());
    number
        .ok_or_else(|| Failure::new(format!("expected a number that a transaction wrote, but the value is {value:?}")))
}

async fn a_thousand_mutations(cx: Context) -> Verdict {
    const MANY: u64 = 1_000;
    let versions = commit(&cx, &sets(0, MANY, 7)).await?;
    ensure_eq!(versions.len(), 1_000, "the number of results of `commit` of 1,000 sets");
    for name in 0..MANY {
        cx.expect(grouped(name), "7").await?;
    }
    let deletes = (0..MANY).fold(Transaction::new(), |all, name| all.delete(grouped(name)));
    let versions = commit(&cx, &deletes).await?;
    ensure_eq!(versions, vec![None; 1_000], "the results of `commit` of 1,000 deletes");
    for name in 0..MANY {
        cx.expect_absent(grouped(name)).await?;
    }
    Ok(())
}

async fn hundreds_of_checks(cx: Context) -> Verdict {
    const CHECKS: usize = 300;
    let checks = |failing: Option<usize>| {
        (0..CHECKS).fold(Transaction::new(), |all, at| {
            let when = if failing == Some(at) { When::Present } else { When::Absent };
            all.check(grouped(at as u64), when)
        })
    };
    let mark = grouped(1_000);
    for failing in [0, 99, 100, 255, 256, 299] {
        let transaction = checks(Some(failing)).set(mark.clone(), "v", Expiry::Never);
        let outcome = cx.store().commit(&transaction).await?;
        let expected = CommitOutcome::Refused { check: failing };
        ensure_eq!(outcome, expected, "the outcome of `commit` with 300 checks, of which check {failing} fails");
        cx.expect_absent(&mark).await?;
    }
    commit(&cx, &checks(None).set(mark.clone(), "v", Expiry::Never)).await?;
    cx.expect(&mark, "v").await
}

async fn hundreds_of_sets_of_one_key(cx: Context) -> Verdict {
    const MANY: u64 = 300;
    let own = grouped(0);
    let all = (0..MANY).fold(Transaction::new(), |all, number| {
        let all = all.set(own.clone(), number.to_string(), Expiry::Never);
        if number % 3 == 0 { all.delete(own.clone()) } else { all }
    });
    commit(&cx, &all).await?;
    cx.expect(&own, "299").await?;
    commit(&cx, &all.delete(own.clone())).await?;
    cx.expect_absent(&own).await
}

async fn each_set_has_its_own_version(cx: Context) -> Verdict {
    let own = grouped(0);
    let transaction =
        Transaction::new().set(own.clone(), "same", Expiry::Never).set(own.clone(), "same", Expiry::Never);
    let versions = commit(&cx, &transaction).await?;
    let [first, second] = versions.as_slice() else {
        return Err(Failure::new(format!("`commit` of two sets returned {} versions", versions.len())));
    };
    ensure!(first != second, "two sets of a key in one transaction have the same version {first:?}");
    ensure_eq!(cx.entry(&own).await?.version, *second, "the version that `get` returned, compared with the last set");
    Ok(())
}
