//! Single transactions: their checks, their mutations, and their results.

use std::time::Duration;

use kv_core::{Capability, CommitOutcome, ErrorKind, Expiry, Key, KvStore, Transaction, Transactions, Version, When};

use crate::case::{Need, cases};
use crate::context::{Context, key};
use crate::failure::{Failure, Verdict, ensure, ensure_eq, shortened};

const TRANSACTIONS: Need = Need::Has(Capability::Transactions);
const VERSIONS: Need = Need::Has(Capability::Versions);
const SOON: Duration = Duration::from_millis(400);

cases! { transactions, Transactions:
    empty_transaction_is_fine: "X-1" [TRANSACTIONS] "an empty transaction is committed and changes nothing";
    all_is_applied: "X-1" [TRANSACTIONS] "if every check holds, every mutation is applied";
    nothing_is_applied: "X-1" [TRANSACTIONS] "if a check fails, no mutation is applied, and the outcome has the index of the check";
    first_failed_check_is_named: "X-1" [TRANSACTIONS] "if several checks fail, the outcome has the index of the first failed check";
    checks_alone_are_judged: "X-1" [TRANSACTIONS] "a transaction with checks only is committed or refused and changes nothing";
    absent_is_checked: "X-1" [TRANSACTIONS] "a check for Absent holds if the key is absent, and fails if the key has an entry";
    present_is_checked: "X-1" [TRANSACTIONS] "a check for Present holds if the key has an entry, and fails if the key is absent";
    value_is_checked: "X-1" [TRANSACTIONS] "a check for a value holds only for the same bytes";
    version_is_checked: "X-1" [TRANSACTIONS, VERSIONS] "a check for a version holds only for the entry of the write that returned the version";
    always_holds: "X-1" [TRANSACTIONS] "a check for Always holds with and without an entry";
    expired_is_absent_to_checks: "T-1" [TRANSACTIONS] "checks see an expired entry as absent";
    checks_see_what_was_before: "X-1" [TRANSACTIONS] "checks see the state before the mutations of their own transaction";
    set_then_delete_leaves_nothing: "X-1" [TRANSACTIONS] "a key that is set and then deleted is absent";
    delete_then_set_leaves_the_value: "X-1" [TRANSACTIONS] "a key that is deleted and then set has the value";
    last_set_of_a_key_stands: "X-1" [TRANSACTIONS] "of several sets of a key in a transaction, the last one wins";
    delete_of_a_missing_key_is_fine: "D-1" [TRANSACTIONS] "a transaction may delete an absent key";
    ttl_inside: "X-1" [TRANSACTIONS] "each set of a transaction has its own time to live";
    set_without_ttl_is_permanent: "S-1" [TRANSACTIONS] "a set without an expiry in a transaction makes the entry permanent";
    keep_keeps_the_deadline: "S-1" [TRANSACTIONS] "a set with `Expiry::Keep` in a transaction keeps the deadline";
    keep_after_a_set_keeps_its_deadline: "X-1" [TRANSACTIONS] "a set with `Expiry::Keep` keeps the deadline that earlier mutations of its transaction left";
    versions_are_one_per_mutation: "X-1" [TRANSACTIONS, VERSIONS] "the outcome has a version for each set and none for each delete, in order";
    outcome_is_as_long_as_the_transaction: "X-1" [TRANSACTIONS] "the outcome has one item for each mutation";
    refused_leaves_versions: "S-2" [TRANSACTIONS, VERSIONS] "a refused transaction leaves value, version and deadline of every key unchanged";
    two_hundred_keys: "X-1" [TRANSACTIONS] "a transaction over two hundred keys is applied as a whole";
    large_values: "X-1" [TRANSACTIONS] "a transaction accepts several values of 1 MiB";
    value_over_the_limit_is_invalid: "V-3" [TRANSACTIONS] "a value over the limit makes the transaction Invalid, and nothing is applied";
    reaches_as_far_as_declared: "X-1" [TRANSACTIONS] "a transaction over two groups is committed by a store that declares any keys, and Unsupported on every other store";
}

/// A key in the single transaction group that all transactions of this file use.
fn grouped(name: &str) -> Key {
    key(["g", "g", "g", "g", name])
}

fn set(name: &str, value: &'static str) -> Transaction {
    Transaction::new().set(grouped(name), value, Expiry::Never)
}

/// Commits a transaction, fails if it is refused, and returns the versions.
async fn commit(cx: &Context, transaction: &Transaction) -> Result<Vec<Option<Version>>, Failure> {
    match cx.store().commit(transaction).await? {
        CommitOutcome::Committed { versions } => Ok(versions),
        CommitOutcome::Refused { check } => {
            let text = shortened(&format!("{transaction:?}"));
            Err(Failure::new(format!("expected `commit` of {text} to be committed, but check {check} failed")))
        }
    }
}

/// Fails unless the transaction is refused because of this check.
async fn expect_refused(cx: &Context, transaction: &Transaction, check: usize) -> Verdict {
    let outcome = cx.store().commit(transaction).await?;
    ensure_eq!(outcome, CommitOutcome::Refused { check }, "the outcome of `commit` of {transaction:?}");
    Ok(())
}

/// Fails unless a transaction with this check of `k` is committed exactly if `holds` is true.
async fn expect_check(cx: &Context, when: When, holds: bool) -> Verdict {
    let transaction = set("mark", "x").check(grouped("k"), when);
    cx.delete(grouped("mark")).await?;
    if holds {
        commit(cx, &transaction).await?;
        cx.expect(grouped("mark"), "x").await
    } else {
        expect_refused(cx, &transaction, 0).await?;
        cx.expect_absent(grouped("mark")).await
    }
}

async fn empty_transaction_is_fine(cx: Context) -> Verdict {
    ensure_eq!(
        commit(&cx, &Transaction::new()).await?,
        Vec::new(),
        "the versions that `commit` of an empty transaction returned"
    );
    Ok(())
}

async fn all_is_applied(cx: Context) -> Verdict {
    cx.set(grouped("from"), "1").await?;
    let transaction = Transaction::new()
        .check(grouped("from"), When::Value("1".into()))
        .check(grouped("to"), When::Absent)
        .delete(grouped("from"))
        .set(grouped("to"), "1", Expiry::Never)
        .set(grouped("log"), "moved", Expiry::Never);
    commit(&cx, &transaction).await?;
    cx.expect_absent(grouped("from")).await?;
    cx.expect(grouped("to"), "1").await?;
    cx.expect(grouped("log"), "moved").await
}

async fn nothing_is_applied(cx: Context) -> Verdict {
    cx.set(grouped("a"), "1").await?;
    let transaction = Transaction::new()
        .check(grouped("a"), When::Present)
        .check(grouped("b"), When::Present)
        .check(grouped("c"), When::Absent)
        .delete(grouped("a"))
        .set(grouped("b"), "2", Expiry::Never)
        .set(grouped("c"), "3", Expiry::Never);
    expect_refused(&cx, &transaction, 1).await?;
    cx.expect(grouped("a"), "1").await?;
    cx.expect_absent(grouped("b")).await?;
    cx.expect_absent(grouped("c")).await
}

async fn first_failed_check_is_named(cx: Context) -> Verdict {
    cx.set(grouped("a"), "1").await?;
    for index in 0..4 {
        let mut transaction = set("b", "2");
        for check in 0..4 {
            transaction = transaction.check(grouped("a"), if check < index { When::Present } else { When::Absent });
        }
        expect_refused(&cx, &transaction, index).await?;
    }
    cx.expect_absent(grouped("b")).await
}

async fn checks_alone_are_judged(cx: Context) -> Verdict {
    cx.set(grouped("a"), "1").await?;
    let fits = Transaction::new().check(grouped("a"), When::Value("1".into())).check(grouped("b"), When::Absent);
    ensure_eq!(
        commit(&cx, &fits).await?,
        Vec::new(),
        "the versions that `commit` of a transaction with checks only returned"
    );
    expect_refused(&cx, &fits.check(grouped("a"), When::Absent), 2).await?;
    cx.expect(grouped("a"), "1").await?;
    cx.expect_absent(grouped("b")).await
}

async fn absent_is_checked(cx: Context) -> Verdict {
    expect_check(&cx, When::Absent, true).await?;
    cx.set(grouped("k"), "").await?;
    expect_check(&cx, When::Absent, false).await
}

async fn present_is_checked(cx: Context) -> Verdict {
    expect_check(&cx, When::Present, false).await?;
    cx.set(grouped("k"), "").await?;
    expect_check(&cx, When::Present, true).await
}

async fn value_is_checked(cx: Context) -> Verdict {
    expect_check(&cx, When::Value("".into()), false).await?;
    cx.set(grouped("k"), "1").await?;
    expect_check(&cx, When::Value("1".into()), true).await?;
    expect_check(&cx, When::Value("1.0".into()), false).await?;
    expect_check(&cx, When::Value("".into()), false).await
}

async fn version_is_checked(cx: Context) -> Verdict {
    let first = cx.set_versioned(grouped("k"), "same").await?;
    expect_check(&cx, When::Version(first), true).await?;
    let second = cx.set_versioned(grouped("k"), "same").await?;
    expect_check(&cx, When::Version(first), false).await?;
    expect_check(&cx, When::Version(second), true).await?;
    cx.delete(grouped("k")).await?;
    expect_check(&cx, When::Version(second), false).await
}

async fn always_holds(cx: Context) -> Verdict {
    expect_check(&cx, When::Always, true).await?;
    cx.set(grouped("k"), "1").await?;
    expect_check(&cx, When::Always, true).await
}

async fn expired_is_absent_to_checks(cx: Context) -> Verdict {
    cx.set_ttl(grouped("k"), "1", SOON).await?;
    cx.advance_past(SOON).await;
    expect_check(&cx, When::Absent, true).await?;
    expect_check(&cx, When::Present, false).await?;
    expect_check(&cx, When::Value("1".into()), false).await
}

async fn checks_see_what_was_before(cx: Context) -> Verdict {
    commit(&cx, &set("k", "1").check(grouped("k"), When::Absent)).await?;
    expect_refused(&cx, &set("k", "2").check(grouped("k"), When::Value("2".into())), 0).await?;
    cx.expect(grouped("k"), "1").await
}

async fn set_then_delete_leaves_nothing(cx: Context) -> Verdict {
    commit(&cx, &set("a", "1").delete(grouped("a"))).await?;
    cx.expect_absent(grouped("a")).await?;
    cx.set(grouped("b"), "old").await?;
    commit(&cx, &set("b", "1").delete(grouped("b"))).await?;
    cx.expect_absent(grouped("b")).await
}

async fn delete_then_set_leaves_the_value(cx: Context) -> Verdict {
    cx.set(grouped("a"), "old").await?;
    for name in ["a", "b"] {
        commit(&cx, &Transaction::new().delete(grouped(name)).set(grouped(name), "1", Expiry::Never)).await?;
        cx.expect(grouped(name), "1").await?;
    }
    Ok(())
}

async fn last_set_of_a_key_stands(cx: Context) -> Verdict {
    let transaction = set("a", "1").set(grouped("b"), "2", Expiry::Never).set(grouped("a"), "3", Expiry::Never);
    commit(&cx, &transaction.set(grouped("a"), "4", Expiry::Never)).await?;
    cx.expect(grouped("a"), "4").await?;
    cx.expect(grouped("b"), "2").await
}

async fn delete_of_a_missing_key_is_fine(cx: Context) -> Verdict {
    ensure_eq!(
        commit(&cx, &Transaction::new().delete(grouped("missing"))).await?,
        vec![None],
        "the versions that `commit` of a delete of an absent key returned"
    );
    cx.expect_absent(grouped("missing")).await
}

async fn ttl_inside(cx: Context) -> Verdict {
    let transaction = Transaction::new()
        .set(grouped("never"), "1", Expiry::Never)
        .set(grouped("soon"), "2", Expiry::After(SOON))
        .set(grouped("later"), "3", Expiry::At(cx.now() + Duration::from_secs(3_600)))
        .set(grouped("at once"), "4", Expiry::After(Duration::ZERO));
    commit(&cx, &transaction).await?;
    cx.expect_absent(grouped("at once")).await?;
    cx.advance_past(SOON).await;
    cx.expect(grouped("never"), "1").await?;
    cx.expect_absent(grouped("soon")).await?;
    cx.expect(grouped("later"), "3").await
}

async fn set_without_ttl_is_permanent(cx: Context) -> Verdict {
    cx.set_ttl(grouped("k"), "1", SOON).await?;
    commit(&cx, &set("k", "2")).await?;
    cx.advance_past(SOON).await;
    cx.expect(grouped("k"), "2").await
}

async fn keep_keeps_the_deadline(cx: Context) -> Verdict {
    cx.set_ttl(grouped("k"), "1", SOON * 2).await?;
    let keep = Transaction::new().check(grouped("k"), When::Present).set(grouped("k"), "2", Expiry::Keep);
    commit(&cx, &keep.set(grouped("new"), "3", Expiry::Keep)).await?;
    cx.advance_past(SOON * 2).await;
    cx.expect_absent(grouped("k")).await?;
    cx.expect(grouped("new"), "3").await
}

async fn keep_after_a_set_keeps_its_deadline(cx: Context) -> Verdict {
    let transaction = Transaction::new()
        .set(grouped("short"), "1", Expiry::After(SOON))
        .set(grouped("short"), "2", Expiry::Keep)
        .set(grouped("long"), "1", Expiry::After(SOON))
        .delete(grouped("long"))
        .set(grouped("long"), "2", Expiry::Keep);
    commit(&cx, &transaction).await?;
    cx.advance_past(SOON).await;
    cx.expect_absent(grouped("short")).await?;
    cx.expect(grouped("long"), "2").await
}

async fn versions_are_one_per_mutation(cx: Context) -> Verdict {
    let transaction =
        set("a", "1").delete(grouped("b")).set(grouped("c"), "3", Expiry::Never).set(grouped("a"), "4", Expiry::Never);
    let versions = commit(&cx, &transaction).await?;
    match versions[..] {
        [Some(first), None, Some(third), Some(fourth)] => {
            ensure!(
                first != third && third != fourth && first != fourth,
                "expected different versions from `commit`, but it returned {versions:?}"
            );
            ensure_eq!(
                cx.entry(grouped("c")).await?.version,
                Some(third),
                "the version that `get` of c returned after `commit`"
            );
            ensure_eq!(
                cx.entry(grouped("a")).await?.version,
                Some(fourth),
                "the version that `get` of a returned after `commit` set it twice"
            );
            Ok(())
        }
        _ => Err(Failure::new(format!(
            "expected `commit` of set, delete, set, set to return versions for the sets, but it returned {versions:?}"
        ))),
    }
}

async fn outcome_is_as_long_as_the_transaction(cx: Context) -> Verdict {
    let mut transaction = Transaction::new();
    for length in 1..8 {
        transaction = if length % 3 == 0 {
            transaction.delete(grouped("a"))
        } else {
            transaction.set(grouped("a"), "v", Expiry::Never)
        };
        ensure_eq!(commit(&cx, &transaction).await?.len(), length, "the number of versions that `commit` returned");
    }
    Ok(())
}

async fn refused_leaves_versions(cx: Context) -> Verdict {
    cx.set_ttl(grouped("a"), "1", Duration::from_secs(3_600)).await?;
    let before = cx.entry(grouped("a")).await?;
    expect_refused(&cx, &set("a", "2").delete(grouped("a")).check(grouped("a"), When::Absent), 0).await?;
    ensure_eq!(cx.entry(grouped("a")).await?, before, "the entry that `get` returned after a refused `commit`");
    Ok(())
}

async fn two_hundred_keys(cx: Context) -> Verdict {
    let names: Vec<String> = (0..200).map(|number| number.to_string()).collect();
    let mut transaction = Transaction::new();
    for name in &names {
        transaction = transaction.check(grouped(name), When::Absent).set(grouped(name), name.clone(), Expiry::Never);
    }
    ensure_eq!(commit(&cx, &transaction).await?.len(), 200, "the number of versions that `commit` returned");
    let keys: Vec<_> = names.iter().map(|name| grouped(name)).collect();
    for (answer, name) in cx.store().get_many(&keys).await.into_iter().zip(&names) {
        ensure_eq!(
            answer?.map(|entry| entry.value),
            Some(name.clone().into()),
            "the value that `get_many` returned for {name} after `commit`"
        );
    }
    expect_refused(&cx, &transaction, 0).await
}

async fn large_values(cx: Context) -> Verdict {
    let value = |byte: u8| vec![byte; 1 << 20];
    let transaction =
        Transaction::new().set(grouped("a"), value(1), Expiry::Never).set(grouped("b"), value(2), Expiry::Never);
    commit(&cx, &transaction.set(grouped("c"), value(3), Expiry::Never)).await?;
    for (name, byte) in [("a", 1), ("b", 2), ("c", 3)] {
        let is_committed = cx.get(grouped(name)).await?.as_deref() == Some(&value(byte)[..]);
        ensure!(is_committed, "`get` of {name} did not return the value of 1 MiB that was committed");
    }
    Ok(())
}

async fn value_over_the_limit_is_invalid(cx: Context) -> Verdict {
    cx.set(grouped("a"), "old").await?;
    let large = vec![0; cx.limits().max_value_bytes + 1];
    let transaction = set("a", "new").set(grouped("b"), large, Expiry::Never).delete(grouped("a"));
    match cx.store().commit(&transaction).await {
        Err(error) if error.kind() == ErrorKind::Invalid => {}
        other => {
            return Err(Failure::new(format!(
                "expected `commit` with a value over the limit to fail as Invalid, but it returned {other:?}"
            )));
        }
    }
    cx.expect(grouped("a"), "old").await?;
    cx.expect_absent(grouped("b")).await
}

async fn reaches_as_far_as_declared(cx: Context) -> Verdict {
    let (near, far) = (grouped("a"), key(["other", "g", "g", "g", "a"]));
    let unsupported = ErrorKind::Unsupported { capability: Capability::Transactions };
    let both = [
        Transaction::new().set(near.clone(), "1", Expiry::Never).set(far.clone(), "2", Expiry::Never),
        Transaction::new().check(far.clone(), When::Absent).set(near.clone(), "1", Expiry::Never),
    ];
    let is_any = cx.capabilities().transactions == Transactions::Any;
    for transaction in both {
        cx.store().delete_many(&[near.clone(), far.clone()]).await;
        match cx.store().commit(&transaction).await {
            Ok(outcome) if is_any => {
                ensure!(
                    outcome.is_committed(),
                    "expected `commit` over two groups to be committed, but it returned {outcome:?}"
                );
                cx.expect(&near, "1").await?;
            }
            Err(error) if !is_any && error.kind() == unsupported => {
                cx.expect_absent(&near).await?;
                cx.expect_absent(&far).await?;
            }
            other => {
                let expected = if is_any { "be committed" } else { "fail as Unsupported" };
                return Err(Failure::new(format!(
                    "expected `commit` over two groups to {expected}, but it returned {other:?}"
                )));
            }
        }
    }
    Ok(())
}
