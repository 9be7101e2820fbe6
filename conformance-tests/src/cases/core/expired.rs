//! An expired entry is absent for every operation, whether it was swept or not.

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
    to_get_and_contains: "T-1" [] "`get` and `contains` do not find an expired entry, also on repeated calls";
    to_get_many: "T-1" [] "`get_many` of live and expired entries returns none for the expired entries";
    to_list: "T-1" [Need::Has(Capability::List)] "`list` does not return an expired entry, in either direction, with values or without";
    to_list_limits: "L-1" [Need::Has(Capability::List)] "`list` with a limit skips expired entries and returns the live entries after them";
    to_clear: "T-1" [Need::Has(Capability::List)] "`clear` does not count an expired entry";
    to_delete: "D-1" [] "`delete` of an expired entry removes nothing";
    to_absent: "T-1" [Need::Has(Capability::Conditions)] "the condition Absent holds if the entry has expired, and `set` creates a new entry";
    to_present: "T-1" [Need::Has(Capability::Conditions)] "the condition Present fails if the entry has expired, and the refusal shows no entry";
    to_its_value: "T-1" [Need::Has(Capability::Conditions)] "a condition on the value of an expired entry fails";
    to_its_version: "T-1" [Need::Has(Capability::Conditions), Need::Has(Capability::Versions)] "a condition on the version of an expired entry fails";
    to_conditional_deletes: "T-1" [Need::Has(Capability::Conditions)] "`delete` of an expired entry is refused with the condition Present, and removes nothing with the condition Absent";
    to_previous: "T-1" [Need::Has(Capability::Previous)] "an expired entry is not returned as the previous entry";
    to_increment: "T-1" [Need::Has(Capability::Counters)] "`increment` of an expired counter starts a new counter";
    to_increment_of_text: "T-1" [Need::Has(Capability::Counters)] "`increment` of an expired value that is not a number starts a new counter";
    to_touch: "T-5" [Need::Has(Capability::Touch)] "`touch` does not revive an expired entry";
    to_transactions: "T-1" [Need::Has(Capability::Transactions)] "the checks of a transaction see an expired entry as absent";
    to_snapshots: "T-1" [Need::Has(Capability::Watch), Need::Has(Capability::List)] "the snapshot of a watch does not contain an expired entry";
}

const TTL: Duration = Duration::from_millis(300);

/// Leaves `["expired"]` expired, with this value, and `["live"]` live; returns the version of the expired entry.
async fn write_expired(cx: &Context, value: &'static str) -> Result<Option<Version>, Failure> {
    let version = cx.set_ttl(["expired"], value, TTL).await?;
    cx.set(["live"], "v").await?;
    cx.advance_past(TTL).await;
    Ok(version)
}

fn expired_key() -> Key {
    key(["expired"])
}

fn when(when: When) -> SetOptions {
    SetOptions::default().with_when(when)
}

async fn to_get_and_contains(cx: Context) -> Verdict {
    write_expired(&cx, "old").await?;
    for _ in 0..3 {
        cx.expect_absent(["expired"]).await?;
    }
    cx.expect(["live"], "v").await
}

async fn to_get_many(cx: Context) -> Verdict {
    write_expired(&cx, "old").await?;
    let found = cx.store().get_many(&[key(["live"]), expired_key(), key(["live"])]).await;
    let found = found.into_iter().map(|entry| Ok(entry?.is_some())).collect::<Result<Vec<_>, Failure>>()?;
    ensure_eq!(found, [true, false, true], "the entries that `get_many` found of live, expired, live");
    Ok(())
}

async fn to_list(cx: Context) -> Verdict {
    write_expired(&cx, "old").await?;
    let all = ListQuery::default();
    for query in [all.clone(), all.clone().with_reverse(), all.clone().with_keys_only(), ListQuery::new(expired_key())]
    {
        let expected = if query.prefix.is_all() { vec![key(["live"])] } else { vec![] };
        let listed: Vec<Key> = cx.list_all(query.clone()).await?.into_iter().map(|item| item.key).collect();
        ensure_eq!(listed, expected, "the keys that `list` returned for {query:?}");
    }
    Ok(())
}

async fn to_list_limits(cx: Context) -> Verdict {
    let names: Vec<String> = (0..30).map(|at| format!("{at:02}")).collect();
    for (at, name) in names.iter().enumerate() {
        let expiry = if at % 10 == 9 { Expiry::Never } else { Expiry::After(TTL) };
        cx.set_with(["many", name], "v", SetOptions::default().with_expiry(expiry)).await?;
    }
    cx.advance_past(TTL).await;
    let live = [key(["many", "09"]), key(["many", "19"]), key(["many", "29"])];
    for limit in [1, 2, 100] {
        let items = cx.list_all(ListQuery::new(key(["many"])).with_limit(limit)).await?;
        let listed: Vec<Key> = items.into_iter().map(|item| item.key).collect();
        ensure_eq!(listed, live, "the keys that `list` returned in pages of {limit}");
    }
    Ok(())
}

async fn to_clear(cx: Context) -> Verdict {
    write_expired(&cx, "old").await?;
    ensure_eq!(
        cx.store().clear(&KeyPrefix::ALL).await?,
        1,
        "the number of entries that `clear` returned, with one live and one expired entry"
    );
    Ok(())
}

async fn to_delete(cx: Context) -> Verdict {
    write_expired(&cx, "old").await?;
    let outcome = cx.store().delete(&expired_key(), &DeleteOptions::default()).await?;
    ensure_eq!(outcome, DeleteOutcome::Missing, "the outcome of `delete` of an expired entry");
    Ok(())
}

async fn to_absent(cx: Context) -> Verdict {
    let old = write_expired(&cx, "old").await?;
    let new = cx.set_with(["expired"], "new", when(When::Absent)).await?;
    cx.expect(["expired"], "new").await?;
    ensure!(
        !cx.has(Capability::Versions) || new != old,
        "`set` over an expired entry returned the version of the expired entry again"
    );
    Ok(())
}

async fn to_present(cx: Context) -> Verdict {
    write_expired(&cx, "old").await?;
    refused(&cx, When::Present).await
}

async fn to_its_value(cx: Context) -> Verdict {
    write_expired(&cx, "old").await?;
    refused(&cx, When::Value("old".into())).await
}

async fn to_its_version(cx: Context) -> Verdict {
    let version = write_expired(&cx, "old").await?;
    let version = version.ok_or_else(|| Failure::new("the store declares versions, but `set` returned none"))?;
    refused(&cx, When::Version(version)).await
}

/// Fails unless a set of the expired key with the condition is refused, shows no entry, and changes nothing.
async fn refused(cx: &Context, condition: When) -> Verdict {
    let outcome = cx.store().set(&expired_key(), "new".into(), &when(condition)).await?;
    ensure_eq!(
        outcome,
        SetOutcome::Refused { current: None },
        "the outcome of a conditional `set` over an expired entry"
    );
    cx.expect_absent(["expired"]).await
}

async fn to_conditional_deletes(cx: Context) -> Verdict {
    write_expired(&cx, "old").await?;
    for (condition, expected) in [
        (When::Present, DeleteOutcome::Refused { current: None }),
        (When::Value("old".into()), DeleteOutcome::Refused { current: None }),
        (When::Absent, DeleteOutcome::Missing),
    ] {
        let outcome = cx.store().delete(&expired_key(), &DeleteOptions::default().with_when(condition.clone())).await?;
        ensure_eq!(outcome, expected, "the outcome of `delete` of an expired entry under {condition:?}");
    }
    Ok(())
}

async fn to_previous(cx: Context) -> Verdict {
    write_expired(&cx, "old").await?;
    let outcome = cx.store().delete(&expired_key(), &DeleteOptions::default().with_previous()).await?;
    ensure_eq!(outcome, DeleteOutcome::Missing, "the outcome of `delete` of an expired entry with `return_previous`");
    match cx.store().set(&expired_key(), "new".into(), &SetOptions::default().with_previous()).await? {
        SetOutcome::Stored { previous, .. } => {
            ensure_eq!(previous, None, "the previous entry of `set` over an expired entry");
        }
        SetOutcome::Refused { .. } => return Err(Failure::new("`set` without a condition was refused")),
    }
    Ok(())
}

async fn to_increment(cx: Context) -> Verdict {
    write_expired(&cx, "41").await?;
    let new = cx.store().increment(&expired_key(), 1, &IncrementOptions::default()).await?;
    ensure_eq!(new, 1, "the number that `increment` by 1 returned over an expired counter");
    // The new counter does not have the old deadline.
    cx.advance_past(TTL).await;
    cx.expect(["expired"], "1").await
}

async fn to_increment_of_text(cx: Context) -> Verdict {
    write_expired(&cx, "no number").await?;
    let new = cx.store().increment(&expired_key(), -7, &IncrementOptions::default()).await?;
    ensure_eq!(new, -7, "the number that `increment` by -7 returned over an expired value that is not a number");
    Ok(())
}

async fn to_touch(cx: Context) -> Verdict {
    write_expired(&cx, "old").await?;
    for expiry in [NewExpiry::Never, NewExpiry::After(Duration::from_secs(60))] {
        ensure!(!cx.store().touch(&expired_key(), expiry).await?, "`touch` returned true for an expired entry");
        cx.expect_absent(["expired"]).await?;
    }
    Ok(())
}

async fn to_transactions(cx: Context) -> Verdict {
    write_expired(&cx, "old").await?;
    let present = Transaction::new().check(expired_key(), When::Present).delete(expired_key());
    ensure!(
        !cx.store().commit(&present).await?.is_committed(),
        "`commit` with a check for Present over an expired entry was committed, but it should be refused"
    );
    let absent = Transaction::new().check(expired_key(), When::Absent).set(expired_key(), "new", Expiry::Never);
    ensure!(
        cx.store().commit(&absent).await?.is_committed(),
        "`commit` with a check for Absent over an expired entry was refused, but it should be committed"
    );
    cx.expect(["expired"], "new").await
}

async fn to_snapshots(cx: Context) -> Verdict {
    write_expired(&cx, "old").await?;
    let mut events = cx.store().watch(&WatchQuery::prefix(KeyPrefix::ALL).with_snapshot()).await?;
    let mut seen = Vec::new();
    while let Some(event) = events.next().await {
        match event? {
            WatchEvent::Set { key, .. } => seen.push(key),
            WatchEvent::SnapshotEnd => {
                ensure_eq!(seen, [key(["live"])], "the keys of the watch snapshot");
                return Ok(());
            }
            _ => {}
        }
    }
    Err(Failure::new("the watch stream ended without a SnapshotEnd event"))
}
