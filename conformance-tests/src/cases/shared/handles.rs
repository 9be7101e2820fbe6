//! Two handles to one store: each handle sees the writes of the other.

use std::time::Duration;

use bytes::Bytes;
use kv_core::{
    Capability, CommitOutcome, DeleteOptions, Expiry, IncrementOptions, Key, KvStore, ListQuery, NewExpiry, SetItem,
    SetOptions, SetOutcome, Transaction, WatchQuery, When,
};

use crate::case::{Need, cases};
use crate::context::{Context, key};
use crate::failure::{Failure, Verdict, ensure, ensure_eq};
use crate::history::{Workload, linearizable};
use crate::recorder::Recorder;
use crate::tasks::clients;
use crate::watcher::{Subscriber, Watcher};

const TWO: Need = Need::SecondHandle;
const CONDITIONS: Need = Need::Has(Capability::Conditions);
const COUNTERS: Need = Need::Has(Capability::Counters);
const LIST: Need = Need::Has(Capability::List);
const MESSAGES: Need = Need::Has(Capability::Messages);
const TOUCH: Need = Need::Has(Capability::Touch);
const TRANSACTIONS: Need = Need::Has(Capability::Transactions);
const VERSIONS: Need = Need::Has(Capability::Versions);
const WATCH: Need = Need::Has(Capability::Watch);

const SOON: Duration = Duration::from_millis(400);
const LONG: Duration = Duration::from_secs(3_600);

cases! { shared, Shared:
    writes_are_seen_at_once: "G-2" [TWO] "each of two handles reads every acknowledged write of the other handle";
    entries_are_the_same: "G-1" [TWO] "two handles return the same value, version and deadline";
    expiry_is_the_same: "T-4" [TWO] "an entry that one handle wrote expires for both handles";
    batches_are_seen: "G-2" [TWO] "a handle reads the entries that the other handle wrote with `set_many`, and deletes them with `delete_many`";
    lists_are_the_same: "L-1" [TWO, LIST] "two handles list the same entries, and one handle clears the entries that the other handle wrote";
    touch_is_seen: "T-5" [TWO, TOUCH] "after a `touch` at one handle, the other handle has the new deadline";
    conditions_hold_across: "S-2" [TWO, CONDITIONS] "a condition is checked against the entry that the other handle wrote";
    versions_hold_across: "S-3" [TWO, CONDITIONS, VERSIONS] "a condition on a version from one handle holds at the other handle, until one of them writes the key";
    one_of_all_creators_wins: "S-4" [TWO, CONDITIONS] "of concurrent sets at two handles with the condition Absent, exactly one is stored";
    swaps_lose_no_update: "S-4" [TWO, CONDITIONS, Need::KeepsAll] "concurrent writers at two handles that use value conditions count exactly";
    increments_are_exact: "C-1" [TWO, COUNTERS, Need::KeepsAll] "concurrent increments at two handles count exactly";
    transactions_hold_across: "X-1" [TWO, TRANSACTIONS] "a transaction at one handle checks and changes entries that the other handle wrote";
    transactions_lose_no_update: "X-1" [TWO, TRANSACTIONS, Need::KeepsAll] "concurrent transactions at two handles count two keys exactly, and readers see no partial transaction";
    changes_are_heard: "W-1" [TWO, WATCH] "a watcher at one handle gets every change of the other handle";
    messages_are_heard: "P-2" [TWO, MESSAGES] "a subscriber at one handle gets the messages that the other handle publishes";
    a_dropped_handle_leaves_the_other: "R-3" [TWO] "dropping one handle affects neither the other handle nor any entry";
    histories_are_linearizable: "G-2" [TWO, Need::KeepsAll, Need::Linearizable] "recorded histories at two handles are linearizable: some order explains every answer";
    histories_with_conditions_are_linearizable: "G-2" [TWO, CONDITIONS, Need::KeepsAll, Need::Linearizable] "recorded histories of conditional calls at two handles are linearizable: some order explains every answer";
    histories_with_expiry_are_linearizable: "T-4" [TWO, CONDITIONS, Need::KeepsAll, Need::Linearizable] "recorded histories of expiring keys at two handles are linearizable: some order explains every answer";
}

fn k() -> Key {
    key(["k"])
}

/// Runs eight clients, half of them at each handle.
async fn clients_at_both_handles<T, F>(
    cx: &Context,
    other: &Recorder,
    work: impl Fn(Recorder, usize) -> F + Send + Sync,
) -> Result<Vec<T>, Failure>
where
    F: Future<Output = Result<T, Failure>> + Send + 'static,
    T: Send + 'static,
{
    clients(cx, 8, |cx, client| work(if client % 2 == 0 { cx.store().clone() } else { other.clone() }, client)).await
}

async fn value(store: &Recorder, key: &Key) -> Result<Option<Bytes>, Failure> {
    Ok(store.get(key).await?.map(|entry| entry.value))
}

async fn number(store: &Recorder, key: &Key) -> Result<(u64, Option<Bytes>), Failure> {
    let found = value(store, key).await?;
    let number = found.as_deref().and_then(|value| std::str::from_utf8(value).ok()?.parse().ok()).unwrap_or(0);
    Ok((number, found))
}

/// Sets with options that have no condition.
async fn set(store: &Recorder, key: &Key, value: impl Into<Bytes>, options: &SetOptions) -> Verdict {
    let outcome = store.set(key, value.into(), options).await?;
    ensure!(outcome.is_stored(), "expected `set` without a condition to be stored, but it returned {outcome:?}");
    Ok(())
}

/// Deletes an entry that exists.
async fn delete(store: &Recorder, key: &Key) -> Verdict {
    let is_deleted = store.delete(key, &DeleteOptions::default()).await?.is_deleted();
    ensure!(is_deleted, "`delete` removed nothing for an entry that the same handle wrote");
    Ok(())
}

pub(super) async fn writes_are_seen_at_once(cx: Context) -> Verdict {
    let other = cx.second_handle().await?;
    for round in 0..100 {
        let (writer, reader) = if round % 2 == 0 { (cx.store(), &other) } else { (&other, cx.store()) };
        let text = round.to_string();
        set(writer, &k(), text.clone(), &SetOptions::default()).await?;
        let found = value(reader, &k()).await?;
        ensure_eq!(found, Some(text.into()), "the value that `get` of the other handle returned after `set`");
        delete(writer, &k()).await?;
        ensure!(!reader.contains(&k()).await?, "`contains` of the other handle returned true after `delete`");
    }
    Ok(())
}

pub(super) async fn entries_are_the_same(cx: Context) -> Verdict {
    let other = cx.second_handle().await?;
    cx.set(["forever"], "v").await?;
    cx.set_ttl(["for an hour"], "v", LONG).await?;
    for name in ["forever", "for an hour"] {
        ensure_eq!(
            other.get(&key([name])).await?,
            Some(cx.entry([name]).await?),
            "the entry that `get` of the other handle returned for {name:?}"
        );
    }
    Ok(())
}

pub(super) async fn expiry_is_the_same(cx: Context) -> Verdict {
    let other = cx.second_handle().await?;
    cx.set_ttl(["mine"], "v", SOON).await?;
    let soon = SetOptions::default().with_expiry(Expiry::After(SOON));
    set(&other, &key(["theirs"]), "v", &soon).await?;
    cx.advance_past(SOON).await;
    for name in ["mine", "theirs"] {
        cx.expect_absent([name]).await?;
        let found = value(&other, &key([name])).await?;
        ensure_eq!(found, None, "the value that `get` of the other handle returned for the expired key {name}");
    }
    Ok(())
}

pub(super) async fn batches_are_seen(cx: Context) -> Verdict {
    let other = cx.second_handle().await?;
    let keys: Vec<Key> = (0..50).map(|number: u32| key(["k", &number.to_string()])).collect();
    let items: Vec<_> = keys.iter().map(|key| SetItem::new(key.clone(), key.to_string())).collect();
    cx.set_many(&items).await?;
    for (answer, item) in other.get_many(&keys).await.into_iter().zip(&items) {
        ensure_eq!(
            answer?.map(|entry| entry.value),
            Some(item.value.clone()),
            "the value that `get_many` of the other handle returned for {}",
            item.key
        );
    }
    for outcome in other.delete_many(&keys).await {
        ensure!(
            outcome?.is_deleted(),
            "`delete_many` of the other handle removed nothing for an entry that the first one wrote"
        );
    }
    for answer in cx.store().get_many(&keys).await {
        ensure_eq!(answer?, None, "the entry that `get_many` returned after `delete_many` of the other handle");
    }
    Ok(())
}

pub(super) async fn lists_are_the_same(cx: Context) -> Verdict {
    let other = cx.second_handle().await?;
    for name in ["a", "b", "c"] {
        cx.set(["k", name], name).await?;
    }
    let page = other.list(&ListQuery::new(k())).await?;
    let expected = cx.list_all(ListQuery::new(k())).await?;
    ensure_eq!(page.items, expected, "the items that `list` of the other handle returned");
    ensure_eq!(other.clear(&k().into()).await?, 3, "the number that `clear` of the other handle returned");
    ensure_eq!(cx.keys(()).await?, [], "the keys that `list` returned after `clear` of the other handle");
    Ok(())
}

pub(super) async fn touch_is_seen(cx: Context) -> Verdict {
    let other = cx.second_handle().await?;
    cx.set_ttl(["longer"], "v", SOON * 4).await?;
    cx.set(["shorter"], "v").await?;
    let is_found = other.touch(&key(["longer"]), NewExpiry::Never).await?;
    ensure!(is_found, "`touch` of the other handle returned false for a live entry");
    let is_found = other.touch(&key(["shorter"]), NewExpiry::After(SOON)).await?;
    ensure!(is_found, "`touch` of the other handle returned false for a live entry");
    cx.advance_past(SOON * 4).await;
    cx.expect(["longer"], "v").await?;
    cx.expect_absent(["shorter"]).await
}

pub(super) async fn conditions_hold_across(cx: Context) -> Verdict {
    let other = cx.second_handle().await?;
    let under = |when| SetOptions::default().with_when(when);
    cx.set_with(k(), "mine", under(When::Absent)).await?;
    let current = Some(cx.entry(k()).await?);
    let outcome = other.set(&k(), "theirs".into(), &under(When::Absent)).await?;
    ensure_eq!(
        outcome,
        SetOutcome::Refused { current },
        "the outcome of `set` with `When::Absent` of the other handle over a live entry"
    );
    let outcome = other.set(&k(), "theirs".into(), &under(When::Value("mine".into()))).await?;
    ensure!(
        outcome.is_stored(),
        "expected `set` conditional on the current value of the other handle to be stored, but it returned {outcome:?}"
    );
    let outcome = cx.store().delete(&k(), &DeleteOptions::default().with_when(When::Value("mine".into()))).await?;
    ensure!(!outcome.is_deleted(), "`delete` conditional on the old value removed the entry, but it should be refused");
    cx.expect(k(), "theirs").await
}

pub(super) async fn versions_hold_across(cx: Context) -> Verdict {
    let other = cx.second_handle().await?;
    let under = |version| SetOptions::default().with_when(When::Version(version));
    let mine = cx.set_versioned(k(), "same").await?;
    let theirs = other.set(&k(), "same".into(), &under(mine)).await?;
    let Some(theirs) = theirs.version() else {
        return Err(Failure::new(format!(
            "expected `set` conditional on the version of the first handle to be stored at the other, but it returned {theirs:?}"
        )));
    };
    let stale = cx.store().set(&k(), "x".into(), &under(mine)).await?;
    ensure!(
        !stale.is_stored(),
        "`set` conditional on a version that the other handle outdated was stored, but it should be refused"
    );
    cx.set_with(k(), "fits", under(theirs)).await?;
    Ok(())
}

pub(super) async fn one_of_all_creators_wins(cx: Context) -> Verdict {
    let other = cx.second_handle().await?;
    for _ in 0..10 {
        let outcomes = clients_at_both_handles(&cx, &other, |store, client| async move {
            let options = SetOptions::default().with_when(When::Absent);
            Ok(store.set(&k(), client.to_string().into(), &options).await?.is_stored())
        });
        let winners: Vec<usize> =
            outcomes.await?.iter().enumerate().filter(|(_, stored)| **stored).map(|(client, _)| client).collect();
        let [winner] = winners[..] else {
            return Err(Failure::new(format!(
                "expected `set` of exactly one client to be stored, but it was stored for the clients {winners:?}"
            )));
        };
        cx.expect(k(), winner.to_string()).await?;
        cx.delete(k()).await?;
    }
    Ok(())
}

pub(super) async fn swaps_lose_no_update(cx: Context) -> Verdict {
    let other = cx.second_handle().await?;
    clients_at_both_handles(&cx, &other, |store, _| async move {
        for _ in 0..50 {
            loop {
                let (before, found) = number(&store, &k()).await?;
                let when = found.map_or(When::Absent, When::Value);
                let options = SetOptions::default().with_when(when);
                if store.set(&k(), (before + 1).to_string().into(), &options).await?.is_stored() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    })
    .await?;
    cx.expect(k(), "400").await
}

pub(super) async fn increments_are_exact(cx: Context) -> Verdict {
    let other = cx.second_handle().await?;
    let reached = clients_at_both_handles(&cx, &other, |store, _| async move {
        let mut reached = Vec::new();
        for _ in 0..50 {
            reached.push(store.increment(&k(), 1, &IncrementOptions::default()).await?);
            tokio::task::yield_now().await;
        }
        Ok(reached)
    });
    let mut reached: Vec<i64> = reached.await?.into_iter().flatten().collect();
    reached.sort_unstable();
    let expected: Vec<i64> = (1..=400).collect();
    ensure_eq!(reached, expected, "the numbers that concurrent increments at both handles returned");
    cx.expect(k(), "400").await
}

/// A key in the single transaction group that all transactions of this file use.
fn grouped(name: &str) -> Key {
    key(["g", "g", "g", "g", name])
}

pub(super) async fn transactions_hold_across(cx: Context) -> Verdict {
    let other = cx.second_handle().await?;
    cx.set(grouped("from"), "v").await?;
    let transaction = Transaction::new().check(grouped("from"), When::Value("v".into())).delete(grouped("from")).set(
        grouped("to"),
        "v",
        Expiry::Never,
    );
    let outcome = other.commit(&transaction).await?;
    ensure!(
        outcome.is_committed(),
        "expected `commit` of the other handle to be committed, but it returned {outcome:?}"
    );
    cx.expect_absent(grouped("from")).await?;
    cx.expect(grouped("to"), "v").await?;
    let outcome = cx.store().commit(&transaction).await?;
    ensure_eq!(
        outcome,
        CommitOutcome::Refused { check: 0 },
        "the outcome of `commit` of the same transaction at the first handle"
    );
    Ok(())
}

pub(super) async fn transactions_lose_no_update(cx: Context) -> Verdict {
    let other = cx.second_handle().await?;
    clients_at_both_handles(&cx, &other, |store, client| async move {
        let (a, b) = (grouped("a"), grouped("b"));
        for _ in 0..40 {
            loop {
                let (first, found) = number(&store, &a).await?;
                let (second, _) = number(&store, &b).await?;
                ensure!(
                    second >= first,
                    "client {client} read {first} in one key, but then the older {second} in the other key"
                );
                let transaction = Transaction::new()
                    .check(a.clone(), found.map_or(When::Absent, When::Value))
                    .set(a.clone(), (first + 1).to_string(), Expiry::Never)
                    .set(b.clone(), (first + 1).to_string(), Expiry::Never);
                if store.commit(&transaction).await?.is_committed() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    })
    .await?;
    cx.expect(grouped("a"), "320").await?;
    cx.expect(grouped("b"), "320").await
}

pub(super) async fn changes_are_heard(cx: Context) -> Verdict {
    let other = cx.second_handle().await?;
    for (writer, watching) in [(cx.store(), &other), (&other, cx.store())] {
        let mut watcher = Watcher::start(watching, WatchQuery::prefix(key(["w"]))).await?;
        for round in 0..50 {
            let own = key(["w", &round.to_string()]);
            set(writer, &own, "v", &SetOptions::default()).await?;
            watcher.expect_set(&own, "v").await?;
            delete(writer, &own).await?;
            watcher.expect_removed(&own).await?;
        }
    }
    Ok(())
}

pub(super) async fn messages_are_heard(cx: Context) -> Verdict {
    let other = cx.second_handle().await?;
    let channel = key(["c"]);
    for (publisher, receiver) in [(cx.store(), &other), (&other, cx.store())] {
        let mut subscriber = Subscriber::start(receiver, &channel).await?;
        for round in 0..100 {
            publisher.publish(&channel, round.to_string().into()).await?;
        }
        for round in 0..100 {
            subscriber.expect_message(&channel, round.to_string()).await?;
        }
    }
    Ok(())
}

pub(super) async fn a_dropped_handle_leaves_the_other(cx: Context) -> Verdict {
    for round in 0..5 {
        let other = cx.second_handle().await?;
        let own = key(["k", &round.to_string()]);
        set(&other, &own, "v", &SetOptions::default()).await?;
        drop(other);
        cx.expect(&own, "v").await?;
        cx.set(&own, "w").await?;
    }
    Ok(())
}

async fn handles(cx: &Context) -> Result<[Recorder; 2], Failure> {
    Ok([cx.store().clone(), cx.second_handle().await?])
}

pub(super) async fn histories_are_linearizable(cx: Context) -> Verdict {
    linearizable(&cx, &handles(&cx).await?, Workload::PLAIN).await
}

pub(super) async fn histories_with_conditions_are_linearizable(cx: Context) -> Verdict {
    linearizable(&cx, &handles(&cx).await?, Workload::PLAIN.with_conditions()).await
}

pub(super) async fn histories_with_expiry_are_linearizable(cx: Context) -> Verdict {
    linearizable(&cx, &handles(&cx).await?, Workload::PLAIN.with_conditions().with_expiry()).await
}
