//! Watches: writes on every path are reported, including rare paths.

use std::time::Duration;

use kv_core::{
    Capability, DeleteOptions, Expires, Expiry, IncrementOptions, Key, KvStore, NewExpiry, SetItem, SetOptions,
    Transaction, WatchEvent, WatchQuery, When,
};

use super::changes::{k, watcher, watcher_after_set};
use crate::case::{Need, cases};
use crate::context::{Context, key};
use crate::failure::{Failure, Verdict, ensure, ensure_eq};
use crate::watcher::{Watcher, ended_early};

const WATCH: Need = Need::Has(Capability::Watch);
const CONDITIONS: Need = Need::Has(Capability::Conditions);
const COUNTERS: Need = Need::Has(Capability::Counters);
const DEADLINES: Need = Need::Has(Capability::Deadlines);
const LIST: Need = Need::Has(Capability::List);
const PREVIOUS: Need = Need::Has(Capability::Previous);
const TOUCH: Need = Need::Has(Capability::Touch);
const TRANSACTIONS: Need = Need::Has(Capability::Transactions);
const VERSIONS: Need = Need::Has(Capability::Versions);

const TTL: Duration = Duration::from_millis(200);
const LONG: Duration = Duration::from_secs(3_600);

cases! { watch_paths, Watch:
    sets_under_a_version: "W-1" [WATCH, CONDITIONS, VERSIONS] "a watch reports a `set` with a condition on a version";
    deletes_under_a_version: "W-1" [WATCH, CONDITIONS, VERSIONS] "a watch reports a `delete` with a condition on a version";
    sets_with_previous: "W-1" [WATCH, PREVIOUS] "a watch reports a `set` that returns the previous entry";
    deletes_with_previous: "W-1" [WATCH, PREVIOUS] "a watch reports a `delete` that returns the previous entry";
    sets_that_keep_the_deadline: "W-1" [WATCH] "a watch reports a `set` with `Expiry::Keep`, with and without a deadline";
    sets_over_the_expired: "W-1" [WATCH] "a watch reports a `set` of a key whose entry has expired, whether that entry was swept or not";
    increments_over_the_expired: "W-1" [WATCH, COUNTERS] "a watch reports an `increment` of an expired counter";
    increments_by_zero: "W-1" [WATCH, COUNTERS, VERSIONS] "a watch reports an `increment` by zero, which makes a new version";
    sets_in_the_past: "T-3" [WATCH] "a watch reports the removal of a live entry by a `set` whose deadline has passed, by every path of a set";
    touches_to_the_past: "T-3" [WATCH, TOUCH] "a watch reports the removal of a live entry by a `touch` to a moment that has passed";
    touches_to_never: "W-1" [WATCH, TOUCH, DEADLINES] "a watch reports a `touch` that makes an entry permanent";
    transactions_on_a_watched_key: "W-1" [WATCH, TRANSACTIONS] "a watch of one key reports that a transaction sets the key and that a transaction deletes it";
    checked_transactions: "W-1" [WATCH, TRANSACTIONS] "a watch reports the sets of a transaction whose checks hold";
    deleted_and_set_in_a_transaction: "W-2" [WATCH, TRANSACTIONS] "after a transaction that deletes a key and then sets it, the last event of the key is the set";
    clear_of_the_own_key: "W-1" [WATCH, LIST] "if `clear` of a prefix removes the key of the prefix itself, a watch reports this removal, or a gap";
    two_watchers_of_one_key: "W-1" [WATCH] "two watchers of one key both get every change";
}

/// A key under the watched prefix, in the single transaction group of this file.
fn grouped(name: &str) -> Key {
    key(["w", "w", "w", "w", name])
}

async fn commit(cx: &Context, transaction: Transaction) -> Verdict {
    let outcome = cx.store().commit(&transaction).await?;
    ensure!(outcome.is_committed(), "expected `commit` to be committed, but it returned {outcome:?}");
    Ok(())
}

/// The condition that the key still has its current version.
async fn unchanged(cx: &Context) -> Result<When, Failure> {
    let version = cx.entry(k()).await?.version;
    version.map(When::Version).ok_or_else(|| Failure::new("the store declares versions, but `get` returned none"))
}

/// Deletes the key, and fails if the delete removes nothing.
async fn delete(cx: &Context, options: DeleteOptions) -> Verdict {
    let outcome = cx.store().delete(&k(), &options).await?;
    ensure!(
        outcome.is_deleted(),
        "expected `delete` with {options:?} to remove the entry, but it returned {outcome:?}"
    );
    Ok(())
}

async fn sets_under_a_version(cx: Context) -> Verdict {
    let mut watcher = watcher_after_set(&cx, "a").await?;
    for value in ["b", "c"] {
        let when = unchanged(&cx).await?;
        cx.set_with(k(), value, SetOptions::default().with_when(when)).await?;
        watcher.expect_set(&k(), value).await?;
    }
    Ok(())
}

async fn deletes_under_a_version(cx: Context) -> Verdict {
    let mut watcher = watcher_after_set(&cx, "v").await?;
    let when = unchanged(&cx).await?;
    delete(&cx, DeleteOptions::default().with_when(when)).await?;
    watcher.expect_removed(&k()).await
}

async fn sets_with_previous(cx: Context) -> Verdict {
    let mut watcher = watcher_after_set(&cx, "a").await?;
    for value in ["b", "c"] {
        cx.set_with(k(), value, SetOptions::default().with_previous()).await?;
        watcher.expect_set(&k(), value).await?;
    }
    Ok(())
}

async fn deletes_with_previous(cx: Context) -> Verdict {
    let mut watcher = watcher_after_set(&cx, "v").await?;
    delete(&cx, DeleteOptions::default().with_previous()).await?;
    watcher.expect_removed(&k()).await
}

async fn sets_that_keep_the_deadline(cx: Context) -> Verdict {
    let mut watcher = watcher_after_set(&cx, "permanent").await?;
    let keep = || SetOptions::default().with_expiry(Expiry::Keep);
    cx.set_with(k(), "still permanent", keep()).await?;
    watcher.expect_set(&k(), "still permanent").await?;
    cx.set_ttl(k(), "with a deadline", LONG).await?;
    watcher.expect_set(&k(), "with a deadline").await?;
    cx.set_with(k(), "with the same deadline", keep()).await?;
    watcher.expect_set(&k(), "with the same deadline").await?;
    Ok(())
}

async fn sets_over_the_expired(cx: Context) -> Verdict {
    let mut watcher = watcher(&cx).await?;
    for (old, new, sweeps) in [("a", "b", false), ("c", "d", true)] {
        cx.set_ttl(k(), old, TTL).await?;
        cx.advance_past(TTL).await;
        if sweeps {
            cx.store().sweep().await?;
        }
        cx.set(k(), new).await?;
        watcher.expect_set(&k(), new).await?;
    }
    Ok(())
}

async fn increments_over_the_expired(cx: Context) -> Verdict {
    let mut watcher = watcher(&cx).await?;
    cx.set_ttl(k(), "41", TTL).await?;
    cx.advance_past(TTL).await;
    cx.store().increment(&k(), 7, &IncrementOptions::default()).await?;
    watcher.expect_set(&k(), "7").await?;
    Ok(())
}

async fn increments_by_zero(cx: Context) -> Verdict {
    let mut watcher = watcher(&cx).await?;
    cx.store().increment(&k(), 5, &IncrementOptions::default()).await?;
    watcher.expect_set(&k(), "5").await?;
    cx.store().increment(&k(), 0, &IncrementOptions::default()).await?;
    let version = cx.entry(k()).await?.version;
    while watcher.expect_set(&k(), "5").await?.version != version {}
    Ok(())
}

async fn sets_in_the_past(cx: Context) -> Verdict {
    let own = grouped("k");
    let mut watcher = watcher(&cx).await?;
    for past in [Expiry::After(Duration::ZERO), Expiry::At(cx.now() - LONG)] {
        let options = SetOptions::default().with_expiry(past);
        live_again(&cx, &mut watcher, &own).await?;
        cx.set_with(&own, "never there", options.clone()).await?;
        expect_removed(&mut watcher, &own, "a `set`").await?;
        live_again(&cx, &mut watcher, &own).await?;
        cx.set_many(&[SetItem::new(own.clone(), "never there").with_options(options.clone())]).await?;
        expect_removed(&mut watcher, &own, "a `set_many`").await?;
        if cx.has(Capability::Conditions) {
            live_again(&cx, &mut watcher, &own).await?;
            cx.set_with(&own, "never there", options.with_when(When::Present)).await?;
            expect_removed(&mut watcher, &own, "a conditional `set`").await?;
        }
        if cx.has(Capability::Transactions) {
            live_again(&cx, &mut watcher, &own).await?;
            commit(&cx, Transaction::new().set(own.clone(), "never there", past)).await?;
            expect_removed(&mut watcher, &own, "a transaction").await?;
        }
    }
    Ok(())
}

async fn touches_to_the_past(cx: Context) -> Verdict {
    let mut watcher = watcher(&cx).await?;
    for past in [NewExpiry::After(Duration::ZERO), NewExpiry::At(cx.now() - LONG)] {
        live_again(&cx, &mut watcher, &k()).await?;
        ensure!(cx.store().touch(&k(), past).await?, "`touch` with {past:?} returned false for a live entry");
        expect_removed(&mut watcher, &k(), "a `touch`").await?;
    }
    Ok(())
}

/// Sets the key, and waits for the event.
async fn live_again(cx: &Context, watcher: &mut Watcher, own: &Key) -> Verdict {
    cx.set(own, "live").await?;
    watcher.expect_set(own, "live").await?;
    Ok(())
}

/// Waits for the event of the key's removal by a write whose deadline has passed.
async fn expect_removed(watcher: &mut Watcher, own: &Key, write: &str) -> Verdict {
    let add_write = |failure| Failure::new(format!("after {write} with a deadline that has passed: {failure}"));
    watcher.expect_removed(own).await.map_err(add_write)
}

async fn touches_to_never(cx: Context) -> Verdict {
    let mut watcher = watcher(&cx).await?;
    cx.set_ttl(k(), "v", LONG).await?;
    watcher.expect_set(&k(), "v").await?;
    ensure!(cx.store().touch(&k(), NewExpiry::Never).await?, "`touch` returned false for a live entry");
    while watcher.expect_set(&k(), "v").await?.expires != Expires::Never {}
    Ok(())
}

async fn transactions_on_a_watched_key(cx: Context) -> Verdict {
    let own = grouped("watched");
    let mut watcher = Watcher::start(cx.store(), WatchQuery::key(own.clone())).await?;
    for value in ["a", "b"] {
        let sets = Transaction::new().set(own.clone(), value, Expiry::Never).set(grouped("a"), "1", Expiry::Never);
        commit(&cx, sets).await?;
        watcher.expect_set(&own, value).await?;
        commit(&cx, Transaction::new().delete(grouped("a")).delete(own.clone())).await?;
        watcher.expect_removed(&own).await?;
    }
    Ok(())
}

async fn checked_transactions(cx: Context) -> Verdict {
    let mut watcher = watcher(&cx).await?;
    for (value, when) in [("a", When::Absent), ("b", When::Present), ("c", When::Value("b".into()))] {
        commit(&cx, Transaction::new().check(grouped("k"), when).set(grouped("k"), value, Expiry::Never)).await?;
        watcher.expect_set(&grouped("k"), value).await?;
    }
    Ok(())
}

async fn deleted_and_set_in_a_transaction(cx: Context) -> Verdict {
    let (own, sentinel) = (grouped("k"), grouped("sentinel"));
    let mut watcher = watcher(&cx).await?;
    live_again(&cx, &mut watcher, &own).await?;
    commit(&cx, Transaction::new().delete(own.clone()).set(own.clone(), "new", Expiry::Never)).await?;
    watcher.expect_set(&own, "new").await?;
    cx.set(&sentinel, "v").await?;
    for event in watcher.events_until(&sentinel, "v").await? {
        let is_removal = event == WatchEvent::Removed { key: own.clone() };
        ensure!(!is_removal, "the watch reported the key as removed after its last set in the transaction");
    }
    cx.expect(&own, "new").await
}

async fn clear_of_the_own_key(cx: Context) -> Verdict {
    let (own, child) = (key(["w", "p"]), key(["w", "p", "child"]));
    let mut watcher = watcher(&cx).await?;
    live_again(&cx, &mut watcher, &own).await?;
    live_again(&cx, &mut watcher, &child).await?;
    ensure_eq!(cx.store().clear(&own.clone().into()).await?, 2, "the number of entries that `clear` returned");
    let mut missing = vec![own, child];
    while !missing.is_empty() {
        match watcher.next().await? {
            Some(WatchEvent::Removed { key }) => missing.retain(|wanted| *wanted != key),
            Some(WatchEvent::Gap { .. }) => return Ok(()),
            Some(_) => {}
            None => return Err(ended_early()),
        }
    }
    Ok(())
}

async fn two_watchers_of_one_key(cx: Context) -> Verdict {
    let mut first = Watcher::start(cx.store(), WatchQuery::key(k())).await?;
    let mut second = Watcher::start(cx.store(), WatchQuery::key(k())).await?;
    for value in ["a", "b"] {
        cx.set(k(), value).await?;
        for watcher in [&mut first, &mut second] {
            watcher.expect_set(&k(), value).await?;
        }
        cx.delete(k()).await?;
        for watcher in [&mut first, &mut second] {
            watcher.expect_removed(&k()).await?;
        }
    }
    Ok(())
}
