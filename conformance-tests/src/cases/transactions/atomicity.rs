//! Transactions under contention: all or nothing for every reader and against every other writer.

use std::time::Duration;

use kv_core::{
    Capability, Clock, CommitOutcome, Entry, Expiry, IncrementOptions, Key, KvStore, SetItem, SetOptions, SystemClock,
    Transaction, When,
};

use crate::case::{Need, cases};
use crate::context::{Context, key};
use crate::failure::{Failure, Verdict, ensure, ensure_eq};
use crate::tasks::clients;

const TRANSACTIONS: Need = Need::Has(Capability::Transactions);
const CONDITIONS: Need = Need::Has(Capability::Conditions);
const COUNTERS: Need = Need::Has(Capability::Counters);

cases! { atomicity, Transactions:
    readers_never_see_half: "X-1" [TRANSACTIONS, Need::KeepsAll] "after a reader saw one effect of a transaction, it sees all effects of the transaction, or newer values";
    batches_see_no_mixture_backwards: "X-1" [TRANSACTIONS, Need::KeepsAll] "after `get_many` returned one effect of a transaction, `get` returns all effects of the transaction, or newer values";
    deletions_are_seen_together: "X-1" [TRANSACTIONS, Need::KeepsAll] "keys that transactions create and delete together exist together or are absent together";
    transfers_keep_the_sum: "X-1" [TRANSACTIONS, Need::KeepsAll] "concurrent transfers between accounts keep the sum";
    one_of_many_wins: "X-1" [TRANSACTIONS, Need::KeepsAll] "of 20 concurrent transactions that check that the same keys are absent, exactly one is committed";
    disjoint_writers_do_not_conflict: "X-1" [TRANSACTIONS, Need::KeepsAll] "concurrent transactions over different keys are never refused";
    opposite_orders_do_not_block: "X-1" [TRANSACTIONS, Need::KeepsAll] "concurrent transactions over the same keys in opposite orders are all committed";
    unchecked_writers_leave_one_of_them: "X-1" [TRANSACTIONS, Need::KeepsAll] "concurrent transactions without checks leave the values of exactly one transaction";
    counts_with_conditional_sets: "X-1" [TRANSACTIONS, CONDITIONS, Need::KeepsAll] "concurrent transactions and conditional sets count one key exactly";
    counts_with_increments: "X-1" [TRANSACTIONS, COUNTERS, Need::KeepsAll] "concurrent transactions and increments count one key exactly";
}

/// A key in the single transaction group that all transactions of this file use.
fn grouped(name: &str) -> Key {
    key(["g", "g", "g", "g", name])
}

fn number(entry: Option<&Entry>) -> Result<u64, Failure> {
    let Some(entry) = entry else { return Ok(0) };
    std::str::from_utf8(&entry.value).ok().and_then(|text| text.parse().ok()).ok_or_else(|| {
        Failure::new(format!("expected a number, since only numbers were written, but the value is {:?}", entry.value))
    })
}

/// The condition that this entry is unchanged. The condition compares the version, or the value if the entry has no
/// version.
fn unchanged(entry: Option<&Entry>) -> When {
    match entry {
        None => When::Absent,
        Some(Entry { version: Some(version), .. }) => When::Version(*version),
        Some(entry) => When::Value(entry.value.clone()),
    }
}

/// The rounds of a client: at least `at_least` rounds, and at least 300 ms, because a fast store would finish any fixed
/// number of rounds before another client reads in between.
fn rounds(at_least: u64) -> impl Iterator<Item = u64> {
    const MIN_DURATION: Duration = Duration::from_millis(300);
    let until = SystemClock.now() + MIN_DURATION;
    (1..).take_while(move |round| *round <= at_least || SystemClock.now() < until)
}

async fn readers_never_see_half(cx: Context) -> Verdict {
    clients(&cx, 6, |cx, client| async move {
        let (a, b) = (grouped("a"), grouped("b"));
        for round in rounds(200) {
            if client == 0 {
                let pair = Transaction::new().set(a.clone(), round.to_string(), Expiry::Never);
                let outcome = cx.store().commit(&pair.set(b.clone(), round.to_string(), Expiry::Never)).await?;
                ensure!(outcome.is_committed(), "`commit` without checks was refused: {outcome:?}");
            } else {
                let (first, second) = if client % 2 == 0 { (&a, &b) } else { (&b, &a) };
                let seen = number(cx.store().get(first).await?.as_ref())?;
                let then = number(cx.store().get(second).await?.as_ref())?;
                ensure!(
                    then >= seen,
                    "`get` of {first} returned the value {seen}, but then `get` of {second} returned the older {then}"
                );
            }
            tokio::task::yield_now().await;
        }
        Ok(())
    })
    .await?;
    Ok(())
}

async fn batches_see_no_mixture_backwards(cx: Context) -> Verdict {
    clients(&cx, 4, |cx, client| async move {
        let keys = [grouped("a"), grouped("b"), grouped("c")];
        for round in rounds(100) {
            if client == 0 {
                let all = keys.iter().fold(Transaction::new(), |transaction, key| {
                    transaction.set(key.clone(), round.to_string(), Expiry::Never)
                });
                ensure!(cx.store().commit(&all).await?.is_committed(), "`commit` without checks was refused");
            } else {
                let mut newest = 0;
                for answer in cx.store().get_many(&keys).await {
                    newest = newest.max(number(answer?.as_ref())?);
                }
                for key in &keys {
                    let then = number(cx.store().get(key).await?.as_ref())?;
                    ensure!(
                        then >= newest,
                        "`get_many` returned the value {newest}, but a later `get` of {key} returned the older {then}"
                    );
                }
            }
            tokio::task::yield_now().await;
        }
        Ok(())
    })
    .await?;
    Ok(())
}

async fn deletions_are_seen_together(cx: Context) -> Verdict {
    // The writer stores the number of its round in a third key, so that a reader knows if a round ended between two
    // reads.
    clients(&cx, 4, |cx, client| async move {
        let (a, b, round_key) = (grouped("a"), grouped("b"), grouped("round"));
        for round in rounds(100) {
            if client == 0 {
                let mark = Transaction::new().set(round_key.clone(), round.to_string(), Expiry::Never);
                let transaction = if round % 2 == 1 {
                    mark.set(a.clone(), "there", Expiry::Never).set(b.clone(), "there", Expiry::Never)
                } else {
                    mark.delete(a.clone()).delete(b.clone())
                };
                ensure!(cx.store().commit(&transaction).await?.is_committed(), "`commit` without checks was refused");
            } else {
                let before = number(cx.store().get(&round_key).await?.as_ref())?;
                let exists = (cx.store().contains(&a).await?, cx.store().contains(&b).await?);
                let after = number(cx.store().get(&round_key).await?.as_ref())?;
                let expected = before % 2 == 1;
                ensure!(
                    before != after || exists == (expected, expected),
                    "expected `contains` of a and b to return {expected} in round {before}, but it returned {exists:?}"
                );
            }
            tokio::task::yield_now().await;
        }
        Ok(())
    })
    .await?;
    Ok(())
}

/// Moves an amount from one account to another, and retries if a concurrent transaction changed an account.
async fn transfer(cx: &Context, from: &Key, to: &Key, amount: u64) -> Verdict {
    loop {
        let (source, target) = (cx.store().get(from).await?, cx.store().get(to).await?);
        let (has, gets) = (number(source.as_ref())?, number(target.as_ref())?);
        let moved = amount.min(has);
        let transaction = Transaction::new()
            .check(from.clone(), unchanged(source.as_ref()))
            .check(to.clone(), unchanged(target.as_ref()))
            .set(from.clone(), (has - moved).to_string(), Expiry::Never)
            .set(to.clone(), (gets + moved).to_string(), Expiry::Never);
        if cx.store().commit(&transaction).await?.is_committed() {
            return Ok(());
        }
        tokio::task::yield_now().await;
    }
}

async fn transfers_keep_the_sum(cx: Context) -> Verdict {
    let accounts: Vec<Key> = (0..5).map(|account: u32| grouped(&account.to_string())).collect();
    for account in &accounts {
        cx.set(account, "100").await?;
    }
    clients(&cx, 8, |cx, client| {
        let accounts = accounts.clone();
        async move {
            for round in rounds(40) {
                let round = usize::try_from(round).unwrap_or_default();
                let (from, to) = ((client + round) % 5, (client * 2 + round * 3 + 1) % 5);
                if let (Some(from), Some(to), true) = (accounts.get(from), accounts.get(to), from != to) {
                    transfer(&cx, from, to, 7).await?;
                }
            }
            Ok(())
        }
    })
    .await?;
    let mut sum = 0;
    for account in &accounts {
        sum += number(cx.store().get(account).await?.as_ref())?;
    }
    ensure_eq!(sum, 500, "the sum of all accounts after concurrent transfers");
    Ok(())
}

async fn one_of_many_wins(cx: Context) -> Verdict {
    for _ in rounds(10) {
        let outcomes = clients(&cx, 20, |cx, client| async move {
            let names = if client % 2 == 0 { ["a", "b"] } else { ["b", "a"] };
            let transaction = names.iter().fold(Transaction::new(), |transaction, name| {
                transaction.check(grouped(name), When::Absent).set(grouped(name), client.to_string(), Expiry::Never)
            });
            Ok(cx.store().commit(&transaction).await?.is_committed())
        })
        .await?;
        let winners: Vec<usize> =
            outcomes.iter().enumerate().filter(|(_, won)| **won).map(|(client, _)| client).collect();
        let [winner] = winners[..] else {
            return Err(Failure::new(format!(
                "expected the transaction of exactly one client to be committed, but those of {winners:?} were"
            )));
        };
        for name in ["a", "b"] {
            cx.expect(grouped(name), winner.to_string()).await?;
            cx.delete(grouped(name)).await?;
        }
    }
    Ok(())
}

async fn disjoint_writers_do_not_conflict(cx: Context) -> Verdict {
    clients(&cx, 8, |cx, client| async move {
        let (a, b) = (grouped(&format!("{client}a")), grouped(&format!("{client}b")));
        for round in 0..50_u64 {
            let (left, right) = (cx.store().get(&a).await?, cx.store().get(&b).await?);
            let transaction = Transaction::new()
                .check(a.clone(), unchanged(left.as_ref()))
                .check(b.clone(), unchanged(right.as_ref()))
                .set(a.clone(), round.to_string(), Expiry::Never)
                .set(b.clone(), round.to_string(), Expiry::Never);
            if let CommitOutcome::Refused { check } = cx.store().commit(&transaction).await? {
                return Err(Failure::new(format!(
                    "`commit` was refused by check {check} of a key that no other client writes"
                )));
            }
        }
        Ok(())
    })
    .await?;
    Ok(())
}

async fn opposite_orders_do_not_block(cx: Context) -> Verdict {
    clients(&cx, 8, |cx, client| async move {
        let mut keys: Vec<Key> = (0..10).map(|name: u32| grouped(&name.to_string())).collect();
        if client % 2 == 1 {
            keys.reverse();
        }
        for round in 0..25 {
            let transaction = keys.iter().fold(Transaction::new(), |transaction, key| {
                transaction.set(key.clone(), format!("{client}.{round}"), Expiry::Never)
            });
            ensure!(cx.store().commit(&transaction).await?.is_committed(), "`commit` without checks was refused");
            tokio::task::yield_now().await;
        }
        Ok(())
    })
    .await?;
    let last = cx.entry(grouped("0")).await?.value;
    for name in 1..10 {
        cx.expect(grouped(&name.to_string()), last.clone()).await?;
    }
    Ok(())
}

async fn unchecked_writers_leave_one_of_them(cx: Context) -> Verdict {
    for _ in rounds(20) {
        clients(&cx, 10, |cx, client| async move {
            let transaction = Transaction::new().set(grouped("a"), client.to_string(), Expiry::Never);
            let transaction = transaction.set(grouped("b"), client.to_string(), Expiry::Never);
            ensure!(cx.store().commit(&transaction).await?.is_committed(), "`commit` without checks was refused");
            Ok(())
        })
        .await?;
        let a = cx.entry(grouped("a")).await?.value;
        cx.expect(grouped("b"), a).await?;
    }
    Ok(())
}

/// Adds one to the number under the key in a transaction.
async fn add_by_commit(cx: &Context, key: &Key) -> Verdict {
    loop {
        let entry = cx.store().get(key).await?;
        let next = number(entry.as_ref())? + 1;
        let transaction = Transaction::new().check(key.clone(), unchanged(entry.as_ref()));
        if cx.store().commit(&transaction.set(key.clone(), next.to_string(), Expiry::Never)).await?.is_committed() {
            return Ok(());
        }
        tokio::task::yield_now().await;
    }
}

async fn counts_with_conditional_sets(cx: Context) -> Verdict {
    clients(&cx, 8, |cx, client| async move {
        let n = grouped("n");
        for _ in 0..40 {
            if client % 2 == 0 {
                add_by_commit(&cx, &n).await?;
                continue;
            }
            loop {
                let entry = cx.store().get(&n).await?;
                let options = SetOptions::default().with_when(unchanged(entry.as_ref()));
                let next = (number(entry.as_ref())? + 1).to_string();
                let items = [SetItem::new(n.clone(), next).with_options(options)];
                let outcome = cx.store().set_many(&items).await.into_iter().next();
                if outcome.ok_or_else(|| Failure::new("`set_many` of one item returned no outcome"))??.is_stored() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    })
    .await?;
    cx.expect(grouped("n"), "320").await
}

async fn counts_with_increments(cx: Context) -> Verdict {
    clients(&cx, 8, |cx, client| async move {
        let n = grouped("n");
        for _ in 0..40 {
            if client % 2 == 0 {
                add_by_commit(&cx, &n).await?;
            } else {
                cx.store().increment(&n, 1, &IncrementOptions::default()).await?;
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    })
    .await?;
    cx.expect(grouped("n"), "320").await
}
