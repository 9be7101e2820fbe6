//! Conditions under contention: of many concurrent attempts, exactly one succeeds.

use std::collections::HashSet;

use kv_core::{Capability, DeleteOptions, Entry, KvStore, SetOptions, SetOutcome, When};

use crate::case::{Need, cases};
use crate::context::{Context, key};
use crate::failure::{Failure, Verdict, ensure, ensure_eq};
use crate::history::{Workload, linearizable};
use crate::tasks::clients;

const CONDITIONS: Need = Need::Has(Capability::Conditions);
const VERSIONS: Need = Need::Has(Capability::Versions);

cases! { races, Conditions:
    one_of_twenty_creators_wins: "S-4" [CONDITIONS] "of 20 concurrent sets of a key with the condition Absent, exactly one is stored, and its value stays";
    one_creator_wins_after_each_delete: "S-4" [CONDITIONS] "concurrent creations and deletions of one key alternate: between two creations there is a deletion";
    one_of_many_swappers_wins: "S-4" [CONDITIONS] "of 20 concurrent sets with a condition on the same value exactly one is stored";
    one_holder_of_a_version_wins: "S-4" [CONDITIONS, VERSIONS] "of 20 concurrent sets and deletes with a condition on the same version exactly one succeeds";
    one_of_many_deleters_wins: "S-4" [CONDITIONS] "of 20 concurrent deletes with a condition on the same value exactly one removes the entry";
    swaps_by_value_lose_no_update: "S-4" [CONDITIONS, Need::KeepsAll] "8 writers that each add one 100 times, with value conditions, count to exactly 800";
    sixteen_writers_count_to_eight_thousand: "S-4" [CONDITIONS, VERSIONS, Need::KeepsAll] "16 writers that each add one 500 times, with version conditions, count to exactly 8,000";
    plain_writes_and_swaps_lose_no_update: "S-4" [CONDITIONS, VERSIONS, Need::KeepsAll] "a plain `set` between a read and a conditional write makes the conditional write fail";
    histories_are_linearizable: "G-2" [CONDITIONS, Need::KeepsAll] "recorded histories of get, set and delete with conditions are linearizable: some order explains every answer";
    histories_of_every_call_are_linearizable: "G-2" [CONDITIONS, Need::KeepsAll] "recorded histories of all calls, with conditions, are linearizable, and each transaction is visible as a whole";
    histories_with_expiry_are_linearizable: "T-1" [CONDITIONS, Need::KeepsAll] "recorded histories of conditional calls on expiring keys are linearizable: some order explains every answer";
}

fn under(when: When) -> SetOptions {
    SetOptions::default().with_when(when)
}

/// The indexes of the stored outcomes.
fn winners(outcomes: &[SetOutcome]) -> Vec<usize> {
    outcomes.iter().enumerate().filter(|(_, outcome)| outcome.is_stored()).map(|(index, _)| index).collect()
}

/// Fails unless exactly one outcome is stored, the key holds the value of the client with this outcome, and every
/// refusal shows that entry.
async fn expect_one_winner(cx: &Context, outcomes: &[SetOutcome]) -> Verdict {
    let [winner] = winners(outcomes)[..] else {
        return Err(Failure::new(format!(
            "expected `set` of exactly one client to be stored, but it was stored for the clients {:?}",
            winners(outcomes)
        )));
    };
    let entry = cx.entry(["k"]).await?;
    ensure_eq!(
        entry.value,
        winner.to_string(),
        "the value that `get` returned after `set` of client {winner} was stored"
    );
    for outcome in outcomes {
        if let SetOutcome::Refused { current } = outcome {
            ensure_eq!(current.as_ref(), Some(&entry), "the current entry that a refused `set` returned");
        }
    }
    Ok(())
}

async fn one_of_twenty_creators_wins(cx: Context) -> Verdict {
    for _ in 0..10 {
        let outcomes = clients(&cx, 20, |cx, client| async move {
            Ok(cx.store().set(&key(["k"]), client.to_string().into(), &under(When::Absent)).await?)
        });
        expect_one_winner(&cx, &outcomes.await?).await?;
        cx.delete(["k"]).await?;
    }
    Ok(())
}

async fn one_creator_wins_after_each_delete(cx: Context) -> Verdict {
    let counts = clients(&cx, 8, |cx, client| async move {
        let mut count = 0_i64;
        for _ in 0..100 {
            if client % 2 == 0 {
                count += i64::from(cx.store().set(&key(["k"]), "v".into(), &under(When::Absent)).await?.is_stored());
            } else {
                count -= i64::from(cx.delete(["k"]).await?);
            }
            tokio::task::yield_now().await;
        }
        Ok(count)
    });
    let difference: i64 = counts.await?.into_iter().sum();
    let left = i64::from(cx.store().contains(&key(["k"])).await?);
    ensure_eq!(difference, left, "the number of creations minus deletions, compared with the number of entries left");
    Ok(())
}

async fn one_of_many_swappers_wins(cx: Context) -> Verdict {
    for _ in 0..10 {
        cx.set(["k"], "before").await?;
        let outcomes = clients(&cx, 20, |cx, client| async move {
            let options = under(When::Value("before".into()));
            Ok(cx.store().set(&key(["k"]), client.to_string().into(), &options).await?)
        });
        expect_one_winner(&cx, &outcomes.await?).await?;
    }
    Ok(())
}

async fn one_holder_of_a_version_wins(cx: Context) -> Verdict {
    for _ in 0..10 {
        let version = cx.set_versioned(["k"], "before").await?;
        let happened = clients(&cx, 20, |cx, client| async move {
            let when = When::Version(version);
            if client % 2 == 0 {
                Ok(cx.store().set(&key(["k"]), "after".into(), &under(when)).await?.is_stored())
            } else {
                let options = DeleteOptions::default().with_when(when);
                Ok(cx.store().delete(&key(["k"]), &options).await?.is_deleted())
            }
        });
        let happened = happened.await?.into_iter().filter(|&happened| happened).count();
        ensure_eq!(happened, 1, "the number of successful writes that are conditional on one version");
    }
    Ok(())
}

async fn one_of_many_deleters_wins(cx: Context) -> Verdict {
    for _ in 0..10 {
        cx.set(["k"], "v").await?;
        let deleted = clients(&cx, 20, |cx, _| async move {
            let options = DeleteOptions::default().with_when(When::Value("v".into()));
            Ok(cx.store().delete(&key(["k"]), &options).await?.is_deleted())
        });
        let deleted = deleted.await?.into_iter().filter(|&deleted| deleted).count();
        ensure_eq!(deleted, 1, "the number of concurrent deletes that removed the entry");
    }
    Ok(())
}

/// Adds one to the number under `k`, with a condition on the entry that it read. Retries until the write is stored.
async fn add_one(cx: &Context, condition: fn(&Entry) -> Option<When>) -> Result<u64, Failure> {
    let mut entry = cx.entry(["k"]).await?;
    loop {
        let number: u64 =
            std::str::from_utf8(&entry.value).ok().and_then(|text| text.parse().ok()).ok_or_else(|| {
                Failure::new(format!("expected the counter to hold a number, but `get` returned {:?}", entry.value))
            })?;
        let when = condition(&entry)
            .ok_or_else(|| Failure::new("the store declares versions, but `get` returned an entry without one"))?;
        match cx.store().set(&key(["k"]), (number + 1).to_string().into(), &under(when)).await? {
            SetOutcome::Stored { .. } => return Ok(number + 1),
            SetOutcome::Refused { current: Some(current) } => entry = current,
            SetOutcome::Refused { current: None } => {
                return Err(Failure::new("a refused `set` returned no current entry, but the counter exists"));
            }
        }
        tokio::task::yield_now().await;
    }
}

/// Runs writers that count up. Fails unless each number was reached once and the last number stays.
async fn expect_exact_count(
    cx: &Context,
    writers: usize,
    each: usize,
    condition: fn(&Entry) -> Option<When>,
) -> Verdict {
    cx.set(["k"], "0").await?;
    let reached = clients(cx, writers, |cx, _| async move {
        let mut reached = Vec::with_capacity(each);
        for _ in 0..each {
            reached.push(add_one(&cx, condition).await?);
        }
        Ok(reached)
    });
    let reached: HashSet<u64> = reached.await?.into_iter().flatten().collect();
    cx.expect(["k"], (writers * each).to_string()).await?;
    ensure_eq!(reached.len(), writers * each, "the number of different counts that the writers stored");
    Ok(())
}

async fn swaps_by_value_lose_no_update(cx: Context) -> Verdict {
    expect_exact_count(&cx, 8, 100, |entry| Some(When::Value(entry.value.clone()))).await
}

async fn sixteen_writers_count_to_eight_thousand(cx: Context) -> Verdict {
    expect_exact_count(&cx, 16, 500, |entry| entry.version.map(When::Version)).await
}

async fn plain_writes_and_swaps_lose_no_update(cx: Context) -> Verdict {
    // A conditional `set` appends to the value that its client read, so it must be refused if a plain `set` came after
    // the read.
    cx.set(["k"], "start").await?;
    clients(&cx, 6, |cx, client| async move {
        for round in 0..50 {
            if client == 0 {
                cx.set(["k"], format!("plain {round}")).await?;
            } else {
                let entry = cx.entry(["k"]).await?;
                let (Some(version), value) = (entry.version, entry.value) else { continue };
                tokio::task::yield_now().await;
                let swapped = [&value, &b"+"[..]].concat();
                if let SetOutcome::Refused { current } =
                    cx.store().set(&key(["k"]), swapped.into(), &under(When::Version(version))).await?
                {
                    let current = current.and_then(|entry| entry.version);
                    ensure!(current != Some(version), "`set` with the current version was refused");
                }
            }
            tokio::task::yield_now().await;
        }
        Ok(())
    })
    .await?;
    let value = cx.entry(["k"]).await?.value;
    ensure!(
        value.starts_with(b"plain 49"),
        "expected `get` to return the last plain write or an extension of it, but it returned {value:?}"
    );
    Ok(())
}

async fn histories_are_linearizable(cx: Context) -> Verdict {
    linearizable(&cx, &[cx.store().clone()], Workload::PLAIN.with_conditions()).await
}

async fn histories_with_expiry_are_linearizable(cx: Context) -> Verdict {
    linearizable(&cx, &[cx.store().clone()], Workload::PLAIN.with_conditions().with_expiry()).await
}

async fn histories_of_every_call_are_linearizable(cx: Context) -> Verdict {
    linearizable(&cx, &[cx.store().clone()], Workload::EVERY_CALL.with_conditions().with_expiry()).await
}
