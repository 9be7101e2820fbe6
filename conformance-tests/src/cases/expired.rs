//! An entry whose time is over is absent for every operation at once, swept or not.

use std::time::Duration;

use futures_util::StreamExt;
use kv_core::{
    Capability, DeleteOptions, DeleteOutcome, Expiry, IncrementOptions, Key, KeyPrefix, KvStore, ListQuery, NewExpiry,
    SetOptions, SetOutcome, Transaction, Version, WatchEvent, WatchQuery, When,
};

use crate::case::{Need, cases};
use crate::context::{Context, key};
use crate::failure::{Failure, Verdict, ensure, ensure_eq};

cases! { expired, Core:
    to_get_and_contains: "T-1" [] "get and contains find nothing, also when they are asked again";
    to_get_many: "T-1" [] "get_many finds nothing in its place";
    to_list: "T-1" [Need::Has(Capability::List)] "list does not show it, in any order, with values or without";
    to_list_limits: "L-1" [Need::Has(Capability::List)] "expired entries do not hide the live ones behind them, however small the pages";
    to_clear: "T-1" [Need::Has(Capability::List)] "clear does not count it";
    to_delete: "D-1" [] "deleting it removes nothing";
    to_absent: "T-1" [Need::Has(Capability::Conditions)] "Absent holds: the key is created anew";
    to_present: "T-1" [Need::Has(Capability::Conditions)] "Present does not hold, and the refusal shows no entry";
    to_its_value: "T-1" [Need::Has(Capability::Conditions)] "its value does not hold as a condition";
    to_its_version: "T-1" [Need::Has(Capability::Conditions), Need::Has(Capability::Versions)] "its version does not hold as a condition";
    to_conditional_deletes: "T-1" [Need::Has(Capability::Conditions)] "a delete under Present is refused, under Absent finds nothing";
    to_previous: "T-1" [Need::Has(Capability::Previous)] "it is not the entry that a write replaced";
    to_increment: "T-1" [Need::Has(Capability::Counters)] "a counter starts anew over it";
    to_increment_of_text: "T-1" [Need::Has(Capability::Counters)] "a value that is no number is no hindrance once its time is over";
    to_touch: "T-5" [Need::Has(Capability::Touch)] "touch does not bring it back";
    to_transactions: "T-1" [Need::Has(Capability::Transactions)] "a transaction's checks see that it is absent";
    to_snapshots: "T-1" [Need::Has(Capability::Watch), Need::Has(Capability::List)] "a watcher's snapshot does not show it";
}

const TTL: Duration = Duration::from_millis(300);

/// Leaves `["expired"]` behind its deadline, with the value `old`, and `["live"]` beside it; gives the version that it had.
async fn after_the_end(cx: &Context, value: &'static str) -> Result<Option<Version>, Failure> {
    let version = cx.set_ttl(["expired"], value, TTL).await?;
    cx.set(["live"], "v").await?;
    cx.outlive(TTL).await;
    Ok(version)
}

fn gone() -> Key {
    key(["expired"])
}

fn when(when: When) -> SetOptions {
    SetOptions::default().with_when(when)
}

async fn to_get_and_contains(cx: Context) -> Verdict {
    after_the_end(&cx, "old").await?;
    for _ in 0..3 {
        cx.expect_absent(["expired"]).await?;
    }
    cx.expect(["live"], "v").await
}

async fn to_get_many(cx: Context) -> Verdict {
    after_the_end(&cx, "old").await?;
    let found = cx.store().get_many(&[key(["live"]), gone(), key(["live"])]).await;
    let found = found.into_iter().map(|entry| Ok(entry?.is_some())).collect::<Result<Vec<_>, Failure>>()?;
    ensure_eq!(found, [true, false, true], "which of live, expired and live are there");
    Ok(())
}

async fn to_list(cx: Context) -> Verdict {
    after_the_end(&cx, "old").await?;
    let all = ListQuery::default();
    for query in [all.clone(), all.clone().with_reverse(), all.clone().with_keys_only(), ListQuery::new(gone())] {
        let expected = if query.prefix.is_all() { vec![key(["live"])] } else { vec![] };
        let listed: Vec<Key> = cx.list_all(query.clone()).await?.into_iter().map(|item| item.key).collect();
        ensure_eq!(listed, expected, "what {query:?} lists");
    }
    Ok(())
}

async fn to_list_limits(cx: Context) -> Verdict {
    let names: Vec<String> = (0..30).map(|at| format!("{at:02}")).collect();
    for (at, name) in names.iter().enumerate() {
        let expiry = if at % 10 == 9 { Expiry::Never } else { Expiry::After(TTL) };
        cx.set_with(["many", name], "v", SetOptions::default().with_expiry(expiry)).await?;
    }
    cx.outlive(TTL).await;
    let live = [key(["many", "09"]), key(["many", "19"]), key(["many", "29"])];
    for limit in [1, 2, 100] {
        let items = cx.list_all(ListQuery::new(key(["many"])).with_limit(limit)).await?;
        let listed: Vec<Key> = items.into_iter().map(|item| item.key).collect();
        ensure_eq!(listed, live, "the live keys in pages of {limit}");
    }
    Ok(())
}

async fn to_clear(cx: Context) -> Verdict {
    after_the_end(&cx, "old").await?;
    ensure_eq!(cx.store().clear(&KeyPrefix::ALL).await?, 1, "how many live entries went");
    Ok(())
}

async fn to_delete(cx: Context) -> Verdict {
    after_the_end(&cx, "old").await?;
    let outcome = cx.store().delete(&gone(), &DeleteOptions::default()).await?;
    ensure_eq!(outcome, DeleteOutcome::Missing, "the outcome of deleting what has expired");
    Ok(())
}

async fn to_absent(cx: Context) -> Verdict {
    let old = after_the_end(&cx, "old").await?;
    let new = cx.set_with(["expired"], "new", when(When::Absent)).await?;
    cx.expect(["expired"], "new").await?;
    ensure!(!cx.has(Capability::Versions) || new != old, "the version of before the expiry came again");
    Ok(())
}

async fn to_present(cx: Context) -> Verdict {
    after_the_end(&cx, "old").await?;
    refused(&cx, When::Present).await
}

async fn to_its_value(cx: Context) -> Verdict {
    after_the_end(&cx, "old").await?;
    refused(&cx, When::Value("old".into())).await
}

async fn to_its_version(cx: Context) -> Verdict {
    let version = after_the_end(&cx, "old").await?;
    let version = version.ok_or_else(|| Failure::new("a store with versions gave none for a set"))?;
    refused(&cx, When::Version(version)).await
}

/// Fails unless the condition is refused over the expired entry as over none, and nothing comes of it.
async fn refused(cx: &Context, condition: When) -> Verdict {
    let outcome = cx.store().set(&gone(), "new".into(), &when(condition)).await?;
    ensure_eq!(outcome, SetOutcome::Refused { current: None }, "the outcome over what has expired");
    cx.expect_absent(["expired"]).await
}

async fn to_conditional_deletes(cx: Context) -> Verdict {
    after_the_end(&cx, "old").await?;
    for (condition, expected) in [
        (When::Present, DeleteOutcome::Refused { current: None }),
        (When::Value("old".into()), DeleteOutcome::Refused { current: None }),
        (When::Absent, DeleteOutcome::Missing),
    ] {
        let outcome = cx.store().delete(&gone(), &DeleteOptions::default().with_when(condition.clone())).await?;
        ensure_eq!(outcome, expected, "the outcome of deleting what has expired under {condition:?}");
    }
    Ok(())
}

async fn to_previous(cx: Context) -> Verdict {
    after_the_end(&cx, "old").await?;
    let outcome = cx.store().delete(&gone(), &DeleteOptions::default().with_previous()).await?;
    ensure_eq!(outcome, DeleteOutcome::Missing, "the outcome of deleting what has expired");
    match cx.store().set(&gone(), "new".into(), &SetOptions::default().with_previous()).await? {
        SetOutcome::Stored { previous, .. } => ensure_eq!(previous, None, "the entry that was replaced"),
        SetOutcome::Refused { .. } => return Err(Failure::new("a write without condition was refused")),
    }
    Ok(())
}

async fn to_increment(cx: Context) -> Verdict {
    after_the_end(&cx, "41").await?;
    let new = cx.store().increment(&gone(), 1, &IncrementOptions::default()).await?;
    ensure_eq!(new, 1, "a counter over an expired one");
    // Nor does the old deadline come with it.
    cx.outlive(TTL).await;
    cx.expect(["expired"], "1").await
}

async fn to_increment_of_text(cx: Context) -> Verdict {
    after_the_end(&cx, "no number").await?;
    let new = cx.store().increment(&gone(), -7, &IncrementOptions::default()).await?;
    ensure_eq!(new, -7, "a counter over expired text");
    Ok(())
}

async fn to_touch(cx: Context) -> Verdict {
    after_the_end(&cx, "old").await?;
    for expiry in [NewExpiry::Never, NewExpiry::After(Duration::from_secs(60))] {
        ensure!(!cx.store().touch(&gone(), expiry).await?, "touch found what has expired");
        cx.expect_absent(["expired"]).await?;
    }
    Ok(())
}

async fn to_transactions(cx: Context) -> Verdict {
    after_the_end(&cx, "old").await?;
    let present = Transaction::new().check(gone(), When::Present).delete(gone());
    ensure!(!cx.store().commit(&present).await?.is_committed(), "a check for presence held over what has expired");
    let absent = Transaction::new().check(gone(), When::Absent).set(gone(), "new", Expiry::Never);
    ensure!(cx.store().commit(&absent).await?.is_committed(), "a check for absence did not hold over what has expired");
    cx.expect(["expired"], "new").await
}

async fn to_snapshots(cx: Context) -> Verdict {
    after_the_end(&cx, "old").await?;
    let mut events = cx.store().watch(&WatchQuery::prefix(KeyPrefix::ALL).with_snapshot()).await?;
    let mut seen = Vec::new();
    while let Some(event) = events.next().await {
        match event? {
            WatchEvent::Set { key, .. } => seen.push(key),
            WatchEvent::SnapshotEnd => {
                ensure_eq!(seen, [key(["live"])], "what the snapshot shows");
                return Ok(());
            }
            _ => {}
        }
    }
    Err(Failure::new("the watch ended without the end of the snapshot"))
}
