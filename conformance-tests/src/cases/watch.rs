//! Watching: what is reported, and what is not.

use std::time::Duration;

use kv_core::{
    Capability, DeleteOptions, Expires, Expiry, IncrementOptions, Key, KvStore, NewExpiry, SetItem, SetOptions,
    Transaction, WatchEvent, WatchQuery, When,
};

use crate::case::{Need, cases};
use crate::context::{Context, key};
use crate::failure::{Failure, Verdict, ensure, ensure_eq};
use crate::watcher::{Watcher, key_of};

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
    set_is_reported: "W-1" [WATCH] "a set is reported, of a new key and of one that is there";
    same_value_is_reported: "W-1" [WATCH, VERSIONS] "a set of the bytes that are there is reported";
    delete_is_reported: "W-1" [WATCH] "a delete is reported";
    conditional_set_is_reported: "W-1" [WATCH, CONDITIONS] "a set under a condition is reported";
    conditional_delete_is_reported: "W-1" [WATCH, CONDITIONS] "a delete under a condition is reported";
    set_many_is_reported: "W-1" [WATCH] "every write of a set_many is reported";
    delete_many_is_reported: "W-1" [WATCH] "every removal of a delete_many is reported";
    commit_is_reported: "W-1" [WATCH, TRANSACTIONS] "every mutation of a transaction is reported";
    increment_is_reported: "W-1" [WATCH, COUNTERS] "an increment is reported, with the number";
    touch_is_reported: "W-1" [WATCH, TOUCH, DEADLINES] "a touch is reported, with the new deadline";
    clear_is_reported: "W-1" [WATCH, LIST] "a clear is reported, key by key or as a gap";
    expiry_is_reported: "W-1" [WATCH, Need::WatchExpiry] "an entry that expires is reported as removed, within about a second";
    zero_ttl_is_no_entry: "T-3" [WATCH] "a set with no time to live is reported as removed, or not at all";
    live_when_the_call_returns: "W-1" [WATCH] "a write that follows the call at once is reported, a hundred times";
    tells_nothing_from_before: "W-1" [WATCH] "a watch without a snapshot starts with the changes that follow it";
    event_is_what_get_shows: "W-2" [WATCH, VERSIONS] "a report has value, version and deadline that get shows";
    never_back_in_time: "W-2" [WATCH] "reports of a key that counts up never go down, and end with the last number";
    refused_write_is_not_reported: "W-2" [WATCH, CONDITIONS] "refused sets and deletes report nothing";
    refused_commit_is_not_reported: "W-2" [WATCH, TRANSACTIONS] "a refused transaction reports nothing";
    delete_of_nothing_is_not_reported: "W-2" [WATCH] "deletes of what is not there report nothing";
    failed_increment_is_not_reported: "W-2" [WATCH, COUNTERS] "an increment that fails reports nothing";
    touch_of_nothing_is_not_reported: "W-2" [WATCH, TOUCH] "a touch of what is not there reports nothing";
    reads_are_not_reported: "W-2" [WATCH] "reads report nothing";
}

fn k() -> Key {
    key(["w", "k"])
}

async fn watcher(cx: &Context) -> Result<Watcher, Failure> {
    Watcher::start(cx.store(), WatchQuery::prefix(key(["w"]))).await
}

/// Fails where a key is reported before the next write of another key is, which is made here.
async fn silent(cx: &Context, watcher: &mut Watcher, quiet: &Key, mark: &'static str) -> Verdict {
    let sentinel = key(["w", "sentinel"]);
    cx.set(&sentinel, mark).await?;
    for event in watcher.until(&sentinel, mark).await? {
        ensure!(key_of(&event) != Some(quiet), "{event:?} was reported, and nothing had happened");
    }
    Ok(())
}

/// A watcher that has heard of everything written so far to `k`, so that what it hears next is new.
async fn settled(cx: &Context, value: &'static str) -> Result<Watcher, Failure> {
    let mut watcher = watcher(cx).await?;
    cx.set(k(), value).await?;
    watcher.hears_set(&k(), value).await?;
    let sentinel = key(["w", "sentinel"]);
    cx.set(&sentinel, "settled").await?;
    watcher.until(&sentinel, "settled").await?;
    Ok(watcher)
}

async fn set_is_reported(cx: Context) -> Verdict {
    let mut watcher = watcher(&cx).await?;
    for value in ["new", "overwritten", ""] {
        cx.set(k(), value).await?;
        watcher.hears_set(&k(), value).await?;
    }
    Ok(())
}

async fn same_value_is_reported(cx: Context) -> Verdict {
    let mut watcher = settled(&cx, "same").await?;
    let version = cx.set(k(), "same").await?;
    while watcher.hears_set(&k(), "same").await?.version != version {}
    Ok(())
}

async fn delete_is_reported(cx: Context) -> Verdict {
    let mut watcher = settled(&cx, "v").await?;
    cx.delete(k()).await?;
    watcher.hears_removed(&k()).await
}

async fn conditional_set_is_reported(cx: Context) -> Verdict {
    let mut watcher = watcher(&cx).await?;
    for (value, when) in [("a", When::Absent), ("b", When::Present), ("c", When::Value("b".into()))] {
        cx.set_with(k(), value, SetOptions::default().with_when(when)).await?;
        watcher.hears_set(&k(), value).await?;
    }
    Ok(())
}

async fn conditional_delete_is_reported(cx: Context) -> Verdict {
    let mut watcher = settled(&cx, "v").await?;
    let options = DeleteOptions::default().with_when(When::Value("v".into()));
    ensure!(cx.store().delete(&k(), &options).await?.is_deleted(), "a delete under the current value was refused");
    watcher.hears_removed(&k()).await
}

async fn set_many_is_reported(cx: Context) -> Verdict {
    let mut watcher = watcher(&cx).await?;
    let keys: Vec<Key> = (0..50).map(|number: u32| key(["w", &number.to_string()])).collect();
    let items: Vec<_> = keys.iter().map(|key| SetItem::new(key.clone(), "v")).collect();
    cx.set_many(&items).await?;
    let mut missing: std::collections::BTreeSet<Key> = keys.into_iter().collect();
    while !missing.is_empty() {
        let event = watcher.event().await.map_err(|failure| Failure::new(format!("{missing:?}: {failure}")))?;
        key_of(&event).map(|key| missing.remove(key));
    }
    Ok(())
}

async fn delete_many_is_reported(cx: Context) -> Verdict {
    let other = key(["w", "other"]);
    let mut watcher = settled(&cx, "v").await?;
    cx.set(&other, "v").await?;
    watcher.hears_set(&other, "v").await?;
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
    // One group, and one prefix, for stores whose transactions reach no further.
    let one = |name| key(["w", "w", "w", "w", name]);
    let mut watcher = watcher(&cx).await?;
    cx.set(one("gone"), "v").await?;
    watcher.hears_set(&one("gone"), "v").await?;
    let transaction = Transaction::new().set(one("a"), "1", Expiry::Never).delete(one("gone"));
    let outcome = cx.store().commit(&transaction.set(one("b"), "2", Expiry::Never)).await?;
    ensure!(outcome.is_committed(), "{outcome:?} without checks");
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
        watcher.hears_set(&k(), number).await?;
    }
    Ok(())
}

async fn touch_is_reported(cx: Context) -> Verdict {
    let mut watcher = settled(&cx, "v").await?;
    let before = cx.entry(k()).await?;
    ensure!(cx.store().touch(&k(), NewExpiry::After(LONG)).await?, "a touch found nothing");
    loop {
        let heard = watcher.hears_set(&k(), "v").await?;
        ensure_eq!(heard.version, before.version, "the version after a touch");
        if matches!(heard.expires, Expires::At(_)) {
            return Ok(());
        }
    }
}

async fn clear_is_reported(cx: Context) -> Verdict {
    let other = key(["w", "other"]);
    let mut watcher = settled(&cx, "v").await?;
    cx.set(&other, "v").await?;
    watcher.hears_set(&other, "v").await?;
    cx.store().clear(&key(["w"]).into()).await?;
    let mut missing = vec![k(), other];
    while !missing.is_empty() {
        match watcher.next().await? {
            Some(WatchEvent::Removed { key }) => missing.retain(|wanted| *wanted != key),
            Some(WatchEvent::Gap { .. }) => return Ok(()),
            Some(_) => {}
            None => return Err(Failure::new("the stream ended, and the store is open")),
        }
    }
    Ok(())
}

async fn expiry_is_reported(cx: Context) -> Verdict {
    let ttl = Duration::from_millis(200);
    let mut watcher = watcher(&cx).await?;
    cx.set_ttl(k(), "v", ttl).await?;
    cx.outlive(ttl).await;
    if cx.moves_clock() {
        cx.store().sweep().await?;
    }
    watcher.hears_removed(&k()).await
}

async fn zero_ttl_is_no_entry(cx: Context) -> Verdict {
    let mut watcher = settled(&cx, "v").await?;
    let sentinel = key(["w", "sentinel"]);
    for over in [true, false] {
        cx.set_ttl(k(), "never there", Duration::ZERO).await?;
        let mark = if over { "over an entry" } else { "over nothing" };
        cx.set(&sentinel, mark).await?;
        for event in watcher.until(&sentinel, mark).await? {
            let is_entry = matches!(&event, WatchEvent::Set { key, .. } if *key == k());
            ensure!(!is_entry, "{event:?} was reported of an entry that was never there");
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
        watcher.hears_set(&own, "first").await?;
    }
    Ok(())
}

async fn tells_nothing_from_before(cx: Context) -> Verdict {
    // Another watcher has heard of the key, so that its report is on the way to nobody.
    let _settled = settled(&cx, "before").await?;
    let mut watcher = watcher(&cx).await?;
    silent(&cx, &mut watcher, &k(), "after").await
}

async fn event_is_what_get_shows(cx: Context) -> Verdict {
    let mut watcher = watcher(&cx).await?;
    for round in 0..20 {
        let value = round.to_string();
        cx.set_ttl(k(), value.clone(), LONG).await?;
        let heard = watcher.hears_set(&k(), &value).await?;
        ensure_eq!(heard, cx.entry(k()).await?, "the entry that was reported");
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
            ensure!(number >= last, "{number} was reported after {last}");
            last = number;
        }
    }
    writer.await.map_err(|error| Failure::new(error.to_string()))?
}

async fn refused_write_is_not_reported(cx: Context) -> Verdict {
    let mut watcher = settled(&cx, "v").await?;
    for when in [When::Absent, When::Value("w".into())] {
        let options = SetOptions::default().with_when(when.clone());
        ensure!(!cx.store().set(&k(), "w".into(), &options).await?.is_stored(), "a set under {when:?} was stored");
        let options = DeleteOptions::default().with_when(when.clone());
        ensure!(!cx.store().delete(&k(), &options).await?.is_deleted(), "a delete under {when:?} was done");
    }
    silent(&cx, &mut watcher, &k(), "after").await
}

async fn refused_commit_is_not_reported(cx: Context) -> Verdict {
    let mut watcher = settled(&cx, "v").await?;
    let transaction = Transaction::new().check(k(), When::Absent).set(k(), "w", Expiry::Never);
    ensure!(!cx.store().commit(&transaction).await?.is_committed(), "a transaction whose check fails was committed");
    silent(&cx, &mut watcher, &k(), "after").await
}

async fn delete_of_nothing_is_not_reported(cx: Context) -> Verdict {
    let mut watcher = settled(&cx, "v").await?;
    let missing = key(["w", "missing"]);
    cx.delete(&missing).await?;
    cx.store().delete_many(std::slice::from_ref(&missing)).await;
    silent(&cx, &mut watcher, &missing, "after").await
}

async fn failed_increment_is_not_reported(cx: Context) -> Verdict {
    let mut watcher = settled(&cx, "no number").await?;
    let result = cx.store().increment(&k(), 1, &IncrementOptions::default()).await;
    ensure!(result.is_err(), "an increment of what is no number gave {result:?}");
    silent(&cx, &mut watcher, &k(), "after").await
}

async fn touch_of_nothing_is_not_reported(cx: Context) -> Verdict {
    let mut watcher = settled(&cx, "v").await?;
    let missing = key(["w", "missing"]);
    ensure!(!cx.store().touch(&missing, NewExpiry::After(LONG)).await?, "a touch of nothing found something");
    silent(&cx, &mut watcher, &missing, "after").await
}

async fn reads_are_not_reported(cx: Context) -> Verdict {
    let mut watcher = settled(&cx, "v").await?;
    cx.expect(k(), "v").await?;
    cx.store().get_many(&[k(), k()]).await;
    if cx.has(Capability::List) {
        cx.keys(()).await?;
    }
    silent(&cx, &mut watcher, &k(), "after").await
}
