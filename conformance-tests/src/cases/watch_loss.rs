//! Watchers that do not keep up, large values, and the end of a watch.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use bytes::Bytes;
use kv_core::{Capability, GapReason, Key, KvStore, ListQuery, SetItem, WatchEvent, WatchQuery};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::case::{Need, cases};
use crate::context::{Context, key};
use crate::failure::{Failure, Verdict, ensure, ensure_eq};
use crate::tasks::clients;
use crate::watcher::Watcher;

const WATCH: Need = Need::Has(Capability::Watch);
const LIST: Need = Need::Has(Capability::List);
const KEEPS_ALL: Need = Need::KeepsAll;

cases! { watch_loss, Watch:
    slow_watcher_is_told_of_its_loss: "W-3" [WATCH, KEEPS_ALL] "a watcher that left 100,000 changes unread has them all or a gap, and no writer waited for it";
    slow_watcher_disturbs_no_other: "W-3" [WATCH, KEEPS_ALL] "a watcher that reads hears everything beside one that does not";
    overwrites_end_with_the_last: "W-1" [WATCH] "a watcher that left thousands of overwrites of a key unread hears of the last";
    watchers_converge: "W-3" [WATCH, LIST, KEEPS_ALL] "after random concurrent writes a watcher that reads again on each gap knows exactly what is stored";
    mebibyte_values_are_reported: "W-4" [WATCH] "values past a transport's own limit, and of a mebibyte, are reported whole";
    long_keys_are_reported: "W-4" [WATCH] "a key of the greatest length is reported";
    dropped_watches_cost_nothing: "P-2" [WATCH] "a watch can be opened and dropped a thousand times";
    dropped_watch_leaves_the_others: "P-2" [WATCH] "dropping one of two watches of a prefix leaves the other";
    close_ends_the_stream: "R-3" [WATCH] "closing the store ends its watches, whether they wait or have something to read";
}

/// How long a write may take beside a watcher that does not read.
const NOT_BLOCKED: Duration = Duration::from_secs(30);

async fn watcher(cx: &Context) -> Result<Watcher, Failure> {
    Watcher::start(cx.store(), WatchQuery::prefix(key(["w"]))).await
}

fn numbered(range: std::ops::Range<u64>) -> Vec<SetItem> {
    range.map(|number| SetItem::new(key(["w", &Key::ordered(number)]), "v")).collect()
}

/// Writes so many keys, and fails where a write hangs.
async fn flood(cx: &Context, keys: u64) -> Verdict {
    for start in (0..keys).step_by(5_000) {
        let items = numbered(start..keys.min(start + 5_000));
        match tokio::time::timeout(NOT_BLOCKED, cx.set_many(&items)).await {
            Ok(result) => result?,
            Err(_) => return Err(Failure::new("a writer waits for a watcher that does not read")),
        }
    }
    Ok(())
}

/// Reads on until a new mark is heard: the keys heard before, and whether there was a gap.
async fn catch_up(cx: &Context, watcher: &mut Watcher) -> Result<(HashSet<Key>, bool), Failure> {
    let mark = key(["w", "mark"]);
    let (mut heard, mut had_gap) = (HashSet::new(), false);
    let mut round = 0_u32;
    cx.set(&mark, round.to_string()).await?;
    loop {
        match watcher.next().await? {
            Some(WatchEvent::Set { key, entry }) if key == mark => {
                if entry.is_some_and(|entry| entry.value == round.to_string()) {
                    return Ok((heard, had_gap));
                }
            }
            Some(WatchEvent::Set { key, .. } | WatchEvent::Removed { key }) => {
                heard.insert(key);
            }
            Some(WatchEvent::Gap { reason }) => {
                ensure_eq!(reason, GapReason::Lagged, "the reason of the gap of a slow watcher");
                // The mark may have been lost as well.
                had_gap = true;
                round += 1;
                cx.set(&mark, round.to_string()).await?;
            }
            Some(_) => {}
            None => return Err(Failure::new("the stream ended, and the store is open")),
        }
    }
}

async fn slow_watcher_is_told_of_its_loss(cx: Context) -> Verdict {
    const KEYS: u64 = 100_000;
    let mut slow = watcher(&cx).await?;
    flood(&cx, KEYS).await?;
    let (heard, had_gap) = catch_up(&cx, &mut slow).await?;
    let missing = usize::try_from(KEYS).unwrap_or(usize::MAX) - heard.len();
    ensure!(had_gap || missing == 0, "the watcher never heard of {missing} keys, and there was no gap");
    // Behind the gap it hears everything again.
    cx.set(["w", "later"], "v").await?;
    slow.hears_set(&key(["w", "later"]), "v").await?;
    Ok(())
}

async fn slow_watcher_disturbs_no_other(cx: Context) -> Verdict {
    let slow = watcher(&cx).await?;
    let mut quick = watcher(&cx).await?;
    for round in 0..50 {
        let own = key(["w", "quick", &round.to_string()]);
        cx.set(&own, "v").await?;
        quick.hears_set(&own, "v").await?;
        let items = numbered(round * 200..(round + 1) * 200);
        cx.set_many(&items).await?;
        for item in items.iter().rev().take(1) {
            quick.hears_set(&item.key, "v").await?;
        }
    }
    drop(slow);
    Ok(())
}

async fn overwrites_end_with_the_last(cx: Context) -> Verdict {
    let own = key(["w", "k"]);
    let mut slow = watcher(&cx).await?;
    for round in 0..5_000 {
        cx.set(&own, round.to_string()).await?;
    }
    loop {
        match slow.next().await? {
            Some(WatchEvent::Set { entry: Some(entry), .. }) if entry.value == "4999" => return Ok(()),
            Some(WatchEvent::Gap { .. }) => return cx.expect(&own, "4999").await,
            Some(_) => {}
            None => return Err(Failure::new("the stream ended, and the store is open")),
        }
    }
}

/// What is stored under the watched prefix.
async fn stored(cx: &Context) -> Result<BTreeMap<Key, Bytes>, Failure> {
    let items = cx.list_all(ListQuery::new(key(["w"]))).await?;
    Ok(items.into_iter().filter_map(|item| item.entry.map(|entry| (item.key, entry.value))).collect())
}

async fn watchers_converge(cx: Context) -> Verdict {
    let mut watcher = Watcher::start(cx.store(), WatchQuery::prefix(key(["w"])).with_snapshot()).await?;
    clients(&cx, 8, |cx, client| async move {
        let mut rng = StdRng::seed_from_u64(cx.seed() ^ (client as u64) << 32);
        for round in 0..150 {
            let own = key(["w", &rng.random_range(0..20).to_string()]);
            if rng.random_bool(0.3) {
                cx.delete(&own).await?;
            } else {
                cx.set(&own, format!("{client}.{round}")).await?;
            }
            tokio::task::yield_now().await;
        }
        Ok(())
    })
    .await?;
    let (mut known, expected) = (BTreeMap::new(), stored(&cx).await?);
    while known != expected {
        let event = watcher.next().await.map_err(|failure| {
            Failure::new(format!("{failure}; the watcher knows {known:?}, and stored is {expected:?}"))
        })?;
        match event {
            Some(WatchEvent::Set { key, entry: Some(entry) }) => {
                known.insert(key, entry.value);
            }
            Some(WatchEvent::Removed { key }) => {
                known.remove(&key);
            }
            Some(WatchEvent::Gap { .. }) => known = stored(&cx).await?,
            Some(_) => {}
            None => return Err(Failure::new("the stream ended, and the store is open")),
        }
    }
    Ok(())
}

async fn mebibyte_values_are_reported(cx: Context) -> Verdict {
    let own = key(["w", "k"]);
    let mut watcher = watcher(&cx).await?;
    for length in [7_999, 8_000, 8_001, 65_536, 1 << 20] {
        let value: Vec<u8> = (0..length).map(|place: u32| place.to_le_bytes()[0]).collect();
        cx.set(&own, value.clone()).await?;
        watcher.hears_set(&own, &value).await?;
    }
    Ok(())
}

async fn long_keys_are_reported(cx: Context) -> Verdict {
    let own = key(["w", &"x".repeat(Key::MAX_BYTES - 2)]);
    let mut watcher = watcher(&cx).await?;
    cx.set(&own, "v").await?;
    watcher.hears_set(&own, "v").await?;
    cx.delete(&own).await?;
    watcher.hears_removed(&own).await
}

async fn dropped_watches_cost_nothing(cx: Context) -> Verdict {
    for round in 0..1_000 {
        let dropped = watcher(&cx).await?;
        if round % 100 == 0 {
            cx.set(["w", "k"], round.to_string()).await?;
        }
        drop(dropped);
    }
    let mut watcher = watcher(&cx).await?;
    cx.set(["w", "k"], "last").await?;
    watcher.hears_set(&key(["w", "k"]), "last").await?;
    Ok(())
}

async fn dropped_watch_leaves_the_others(cx: Context) -> Verdict {
    let own = key(["w", "k"]);
    let (dropped, mut stays) = (watcher(&cx).await?, watcher(&cx).await?);
    cx.set(&own, "before").await?;
    drop(dropped);
    stays.hears_set(&own, "before").await?;
    cx.set(&own, "after").await?;
    stays.hears_set(&own, "after").await?;
    Ok(())
}

async fn close_ends_the_stream(cx: Context) -> Verdict {
    let (mut waits, unread) = (watcher(&cx).await?, watcher(&cx).await?);
    cx.set(["w", "k"], "v").await?;
    waits.hears_set(&key(["w", "k"]), "v").await?;
    cx.delete(["w", "k"]).await?;
    waits.hears_removed(&key(["w", "k"])).await?;
    let waiting = tokio::spawn(waits.ends());
    cx.store().close().await?;
    unread.ends().await?;
    waiting.await.map_err(|error| Failure::new(error.to_string()))?
}
