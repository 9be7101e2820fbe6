//! Watches: the changes that are reported, and those that are not.

use std::time::Duration;

use kv_core::{
    Capability, DeleteOptions, Expires, Expiry, IncrementOptions, Key, KvStore, NewExpiry, SetItem, SetOptions,
    Transaction, WatchEvent, WatchQuery, When,
};

use crate::case::{Need, cases};
use crate::context::{Context, key};
use crate::failure::{Failure, Verdict, ensure, ensure_eq};
use crate::watcher::{Watcher, ended_early, key_of};

const WATCH: Need = Need::Has(Capability::Watch);
const CONDITIONS: Need = Need::Has(Capability::Conditions);
const COUNTERS: Need = Need::Has(Capability::Counters);
const DEADLINES: Need = Need::Has(Capability::Deadlines);
const LIST: Need = Need::Has(Capability::List);
const TOUCH: Need = Need::Has(Capability::Touch);
const TRANSACTIONS: Need = Need::Has(Capability::Transactions);
const VERSIONS: Need = Need::Has(Capability::Versions);

const LONG: Duration = Duration::from_secs(3_600);

cases! { watch, Watch:
    set_is_reported: "W-1" [WATCH] "a watch reports a `set` of a new key and a `set` of an existing key";
    same_value_is_reported: "W-1" [WATCH, VERSIONS] "a watch reports a `set` of the same bytes";
    delete_is_reported: "W-1" [WATCH] "a watch reports a `delete`";
    conditional_set_is_reported: "W-1" [WATCH, CONDITIONS] "a watch reports a conditional `set`";
    conditional_delete_is_reported: "W-1" [WATCH, CONDITIONS] "a watch reports a conditional `delete`";
    set_many_is_reported: "W-1" [WATCH] "a watch reports every write of `set_many`";
    delete_many_is_reported: "W-1" [WATCH] "a watch reports every removal of `delete_many`";
    commit_is_reported: "W-1" [WATCH, TRANSACTIONS] "a watch reports every mutation of a transaction";
    increment_is_reported: "W-1" [WATCH, COUNTERS] "a watch reports an `increment` with the number";
    touch_is_reported: "W-1" [WATCH, TOUCH, DEADLINES] "a watch reports a `touch` with the new deadline";
    clear_is_reported: "W-1" [WATCH, LIST] "a watch reports a `clear`, key by key or as a gap";
    expiry_is_reported: "W-1" [WATCH, Need::WatchExpiry] "a watch reports an expired entry as removed, within about a second";
    zero_ttl_is_no_entry: "T-3" [WATCH] "a watch reports a `set` with a time to live of zero as removed, or not at all";
    live_when_the_call_returns: "W-1" [WATCH] "a watch reports a write that is made right after `watch` returns, in each of 100 rounds";
    tells_nothing_from_before: "W-1" [WATCH] "a watch without a snapshot reports no changes from before the call of `watch`";
    event_is_what_get_shows: "W-2" [WATCH, VERSIONS] "an event has the same value, version and deadline as `get`";
    never_back_in_time: "W-2" [WATCH] "the events of a key that counts up never go down, and end with the last number";
    refused_write_is_not_reported: "W-2" [WATCH, CONDITIONS] "a watch does not report refused sets and deletes";
    refused_commit_is_not_reported: "W-2" [WATCH, TRANSACTIONS] "a watch does not report a refused transaction";
    delete_of_nothing_is_not_reported: "W-2" [WATCH] "a watch does not report deletes of absent keys";
    failed_increment_is_not_reported: "W-2" [WATCH, COUNTERS] "a watch does not report a failed `increment`";
    touch_of_nothing_is_not_reported: "W-2" [WATCH, TOUCH] "a watch does not report a `touch` of an absent key";
    reads_are_not_reported: "W-2" [WATCH] "a watch does not report reads";
}

pub(super) fn k() -> Key {
    key(["w", "k"])
}

pub(super) async fn watcher(cx: &Context) -> Result<Watcher, Failure> {
    Watcher::start(cx.store(), WatchQuery::prefix(key(["w"]))).await
}

/// Writes a sentinel key and fails if an event of the quiet key comes before the event of the sentinel.
async fn expect_no_event(cx: &Context, watcher: &mut Watcher, quiet: &Key, mark: &'static str) -> Verdict {
    let sentinel = key(["w", "sentinel"]);
    cx.set(&sentinel, mark).await?;
    for event in watcher.events_until(&sentinel, mark).await? {
        ensure!(key_of(&event) != Some(quiet), "the watch reported {event:?}, but the key did not change");
    }
    Ok(())
}

/// Starts a watcher, sets `k`, and reads all events so far, so that the next event is new.
pub(super) async fn watcher_after_set(cx: &Context, value: &'static str) -> Result<Watcher, Failure> {
    let mut watcher = watcher(cx).await?;
    cx.set(k(), value).await?;
    watcher.expect_set(&k(), value).await?;
    let sentinel = key(["w", "sentinel"]);
    cx.set(&sentinel, "settled").await?;
    watcher.events_until(&sentinel, "settled").await?;
    Ok(watcher)
}

async fn set_is_reported(cx: Context) -> Verdict {
    let mut watcher = watcher(&cx).await?;
    for value in ["new", "overwritten", ""] {
        cx.set(k(), value).await?;
        watcher.expect_set(&k(), value).await?;
    }
    Ok(())
}

async fn same_value_is_reported(cx: Context) -> Verdict {
    let mut watcher = watcher_after_set(&cx, "same").await?;
    let version = cx.set(k(), "same").await?;
    while watcher.expect_set(&k(), "same").await?.version != version {}
    Ok(())
}

async fn delete_is_reported(cx: Context) -> Verdict {
    let mut watcher = watcher_after_set(&cx, "v").await?;
    cx.delete(k()).await?;
    watcher.expect_removed(&k()).await
}

async fn conditional_set_is_reported(cx: Context) -> Verdict {
    let mut watcher = watcher(&cx).await?;
    for (value, when) in [("a", When::Absent), ("b", When::Present), ("c", When::Value("b".into()))] {
        cx.set_with(k(), value, SetOptions::default().with_when(when)).await?;
        watcher.expect_set(&k(), value).await?;
    }
    Ok(())
}

async fn conditional_delete_is_reported(cx: Context) -> Verdict {
    let mut watcher = watcher_after_set(&cx, "v").await?;
    let options = DeleteOptions::default().with_when(When::Value("v".into()));
    ensure!(cx.store().delete(&k(), &options).await?.is_deleted(), "`delete` with a true condition was refused");
    watcher.expect_removed(&k()).await
}

async fn set_many_is_reported(cx: Context) -> Verdict {
    let mut watcher = watcher(&cx).await?;
    let keys: Vec<Key> = (0..50).map(|number: u32| key(["w", &number.to_string()])).collect();
    let items: Vec<_> = keys.iter().map(|key| SetItem::new(key.clone(), "v")).collect();
    cx.set_many(&items).await?;
    let mut missing: std::collections::BTreeSet<Key> = keys.into_iter().collect();
    while !missing.is_empty() {
        let event = watcher
            .event()
            .await
            .map_err(|failure| Failure::new(format!("while waiting for the events of {missing:?}: {failure}")))?;
        key_of(&event).map(|key| missing.remove(key));
    }
    Ok(())
}

async fn delete_many_is_reported(cx: Context) -> Verdict {
    let other = key(["w", "other"]);
    let mut watcher = watcher_after_set(&cx, "v").await?;
    cx.set(&other, "v").await?;
    watcher.expect_set(&other, "v").await?;
    cx.store().delete_many(&[k(), other.clone()]).await;
    let mut missing = vec![k(), other];
    while !missing.is_empty() {
        if let WatchEvent::Removed { key } = watcher.event().await? {
            missing.retain(|wanted| *wanted != key);
        }
    }
    Ok(())
}

async fn commit_is_reported(cx: Context) -> Verdict {
    // All keys are in one transaction group and under one prefix.
    let one = |name| key(["w", "w", "w", "w", name]);
    let mut watcher = watcher(&cx).await?;
    cx.set(one("gone"), "v").await?;
    watcher.expect_set(&one("gone"), "v").await?;
    let transaction = Transaction::new().set(one("a"), "1", Expiry::Never).delete(one("gone"));
    let outcome = cx.store().commit(&transaction.set(one("b"), "2", Expiry::Never)).await?;
    ensure!(outcome.is_committed(), "expected `commit` without checks to be committed, but it returned {outcome:?}");
    let (mut a, mut b, mut gone) = (false, false, false);
    while !(a && b && gone) {
        match watcher.event().await? {
            WatchEvent::Set { key, entry: Some(entry) } if key == one("a") => a = entry.value == "1",
            WatchEvent::Set { key, entry: Some(entry) } if key == one("b") => b = entry.value == "2",
            WatchEvent::Removed { key } if key == one("gone") => gone = true,
            _ => {}
        }
    }
    Ok(())
}

async fn increment_is_reported(cx: Context) -> Verdict {
    let mut watcher = watcher(&cx).await?;
    for number in ["5", "10"] {
        cx.store().increment(&k(), 5, &IncrementOptions::default()).await?;
        watcher.expect_set(&k(), number).await?;
    }
    Ok(())
}

async fn touch_is_reported(cx: Context) -> Verdict {
    let mut watcher = watcher_after_set(&cx, "v").await?;
    let before = cx.entry(k()).await?;
    ensure!(cx.store().touch(&k(), NewExpiry::After(LONG)).await?, "`touch` returned false for a live entry");
    loop {
        let entry = watcher.expect_set(&k(), "v").await?;
        ensure_eq!(entry.version, before.version, "the version of the watch event of `touch`");
        if matches!(entry.expires, Expires::At(_)) {
            return Ok(());
        }
    }
}

async fn clear_is_reported(cx: Context) -> Verdict {
    let other = key(["w", "other"]);
    let mut watcher = watcher_after_set(&cx, "v").await?;
    cx.set(&other, "v").await?;
    watcher.expect_set(&other, "v").await?;
    cx.store().clear(&key(["w"]).into()).await?;
    let mut missing = vec![k(), other];
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

async fn expiry_is_reported(cx: Context) -> Verdict {
    let ttl = Duration::from_millis(200);
    let mut watcher = watcher(&cx).await?;
    cx.set_ttl(k(), "v", ttl).await?;
    cx.advance_past(ttl).await;
    if cx.moves_clock() {
        cx.store().sweep().await?;
    }
    watcher.expect_removed(&k()).await
}

async fn zero_ttl_is_no_entry(cx: Context) -> Verdict {
    let mut watcher = watcher_after_set(&cx, "v").await?;
    let sentinel = key(["w", "sentinel"]);
    for over in [true, false] {
        cx.set_ttl(k(), "never there", Duration::ZERO).await?;
        let mark = if over { "live entry" } else { "no entry" };
        cx.set(&sentinel, mark).await?;
        for event in watcher.events_until(&sentinel, mark).await? {
            let is_entry = matches!(&event, WatchEvent::Set { key, .. } if *key == k());
            ensure!(!is_entry, "the watch reported {event:?} for a `set` with a time to live of zero over: {mark}");
        }
    }
    Ok(())
}

async fn live_when_the_call_returns(cx: Context) -> Verdict {
    for round in 0..100 {
        let own = key(["w", &round.to_string()]);
        let query = if round % 2 == 0 { WatchQuery::prefix(&own) } else { WatchQuery::key(own.clone()) };
        let mut watcher = Watcher::start(cx.store(), query).await?;
        cx.set(&own, "first").await?;
        watcher.expect_set(&own, "first").await?;
    }
    Ok(())
}

async fn tells_nothing_from_before(cx: Context) -> Verdict {
    // Another watcher has received the event of the key, so that the event is no longer in flight.
    let _first = watcher_after_set(&cx, "before").await?;
    let mut watcher = watcher(&cx).await?;
    expect_no_event(&cx, &mut watcher, &k(), "after").await
}

async fn event_is_what_get_shows(cx: Context) -> Verdict {
    let mut watcher = watcher(&cx).await?;
    for round in 0..20 {
        let value = round.to_string();
        cx.set_ttl(k(), value.clone(), LONG).await?;
        let entry = watcher.expect_set(&k(), &value).await?;
        ensure_eq!(entry, cx.entry(k()).await?, "the entry of the watch event, compared with `get`");
    }
    Ok(())
}

async fn never_back_in_time(cx: Context) -> Verdict {
    const LAST: u32 = 500;
    let mut watcher = watcher(&cx).await?;
    let writer = tokio::spawn({
        let cx = cx.clone();
        async move {
            for number in 1..=LAST {
                cx.set(k(), number.to_string()).await?;
                tokio::task::yield_now().await;
            }
            Ok::<_, Failure>(())
        }
    });
    let mut last = 0;
    while last < LAST {
        if let WatchEvent::Set { key, entry: Some(entry) } = watcher.event().await?
            && key == k()
        {
            let number = std::str::from_utf8(&entry.value).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
            ensure!(number >= last, "the watch reported the older number {number} after {last}");
            last = number;
        }
    }
    writer.await.map_err(|error| Failure::new(format!("the writing task panicked: {error}")))?
}

async fn refused_write_is_not_reported(cx: Context) -> Verdict {
    let mut watcher = watcher_after_set(&cx, "v").await?;
    for when in [When::Absent, When::Value("w".into())] {
        let options = SetOptions::default().with_when(when.clone());
        ensure!(
            !cx.store().set(&k(), "w".into(), &options).await?.is_stored(),
            "`set` with {when:?} was stored, but it should be refused"
        );
        let options = DeleteOptions::default().with_when(when.clone());
        ensure!(
            !cx.store().delete(&k(), &options).await?.is_deleted(),
            "`delete` with {when:?} removed the entry, but it should be refused"
        );
    }
    expect_no_event(&cx, &mut watcher, &k(), "after").await
}

async fn refused_commit_is_not_reported(cx: Context) -> Verdict {
    let mut watcher = watcher_after_set(&cx, "v").await?;
    let transaction = Transaction::new().check(k(), When::Absent).set(k(), "w", Expiry::Never);
    ensure!(
        !cx.store().commit(&transaction).await?.is_committed(),
        "`commit` with a failing check was committed, but it should be refused"
    );
    expect_no_event(&cx, &mut watcher, &k(), "after").await
}

async fn delete_of_nothing_is_not_reported(cx: Context) -> Verdict {
    let mut watcher = watcher_after_set(&cx, "v").await?;
    let missing = key(["w", "missing"]);
    cx.delete(&missing).await?;
    cx.store().delete_many(std::slice::from_ref(&missing)).await;
    expect_no_event(&cx, &mut watcher, &missing, "after").await
}

async fn failed_increment_is_not_reported(cx: Context) -> Verdict {
    let mut watcher = watcher_after_set(&cx, "no number").await?;
    let result = cx.store().increment(&k(), 1, &IncrementOptions::default()).await;
    ensure!(
        result.is_err(),
        "expected `increment` of a value that is not a number to fail, but it returned {result:?}"
    );
    expect_no_event(&cx, &mut watcher, &k(), "after").await
}

async fn touch_of_nothing_is_not_reported(cx: Context) -> Verdict {
    let mut watcher = watcher_after_set(&cx, "v").await?;
    let missing = key(["w", "missing"]);
    ensure!(!cx.store().touch(&missing, NewExpiry::After(LONG)).await?, "`touch` returned true for an absent key");
    expect_no_event(&cx, &mut watcher, &missing, "after").await
}

async fn reads_are_not_reported(cx: Context) -> Verdict {
    let mut watcher = watcher_after_set(&cx, "v").await?;
    cx.expect(k(), "v").await?;
    cx.store().get_many(&[k(), k()]).await;
    if cx.has(Capability::List) {
        cx.keys(()).await?;
    }
    expect_no_event(&cx, &mut watcher, &k(), "after").await
}
