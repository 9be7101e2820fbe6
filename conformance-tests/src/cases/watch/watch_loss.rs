//! Slow watchers, large values, and the end of a watch.

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
use crate::watcher::{Watcher, ended_early};

const WATCH: Need = Need::Has(Capability::Watch);
const LIST: Need = Need::Has(Capability::List);
const KEEPS_ALL: Need = Need::KeepsAll;

cases! { watch_loss, Watch:
    slow_watcher_is_told_of_its_loss: "W-3" [WATCH, KEEPS_ALL] "a watcher that left 100,000 changes unread gets all of them or a gap, and blocks no writer";
    slow_watcher_disturbs_no_other: "W-3" [WATCH, KEEPS_ALL] "while one watcher does not read, another watcher gets every change";
    overwrites_end_with_the_last: "W-1" [WATCH] "a watcher that left thousands of overwrites of a key unread gets the last overwrite";
    watchers_converge: "W-3" [WATCH, LIST, KEEPS_ALL] "a watcher that reads the store again after each gap has exactly the entries of the store after random concurrent writes";
    mebibyte_values_are_reported: "W-4" [WATCH] "values of up to 1 MiB are reported completely, even if the notifications of the backend are smaller";
    long_keys_are_reported: "W-4" [WATCH] "a key of the maximum length is reported";
    dropped_watches_cost_nothing: "P-2" [WATCH] "a watch can be opened and dropped a thousand times";
    dropped_watch_leaves_the_others: "P-2" [WATCH] "dropping one of two watches of a prefix does not affect the other";
    close_ends_the_stream: "R-3" [WATCH] "`close` ends the watches of the store, with a waiting reader and with unread events";
}

/// The timeout of a batch of writes while a watcher does not read.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

async fn watcher(cx: &Context) -> Result<Watcher, Failure> {
    Watcher::start(cx.store(), WatchQuery::prefix(key(["w"]))).await
}

fn numbered(range: std::ops::Range<u64>) -> Vec<SetItem> {
    range.map(|number| SetItem::new(key(["w", &Key::ordered(number)]), "v")).collect()
}

/// Writes this number of keys and fails if a write hangs.
async fn flood(cx: &Context, keys: u64) -> Verdict {
    for start in (0..keys).step_by(5_000) {
        let items = numbered(start..keys.min(start + 5_000));
        match tokio::time::timeout(WRITE_TIMEOUT, cx.set_many(&items)).await {
            Ok(result) => result?,
            Err(_) => {
                return Err(Failure::new(format!(
                    "`set_many` did not end within {WRITE_TIMEOUT:?} while a watcher did not read"
                )));
            }
        }
    }
    Ok(())
}

/// Writes a sentinel key and reads until the event of the sentinel. Returns the keys of the events before it, and true
/// if there was a gap.
async fn catch_up(cx: &Context, watcher: &mut Watcher) -> Result<(HashSet<Key>, bool), Failure> {
    let mark = key(["w", "mark"]);
    let (mut keys, mut had_gap) = (HashSet::new(), false);
    let mut round = 0_u32;
    cx.set(&mark, round.to_string()).await?;
    loop {
        match watcher.next().await? {
            Some(WatchEvent::Set { key, entry }) if key == mark => {
                if entry.is_some_and(|entry| entry.value == round.to_string()) {
                    return Ok((keys, had_gap));
                }
            }
            Some(WatchEvent::Set { key, .. } | WatchEvent::Removed { key }) => {
                keys.insert(key);
            }
            Some(WatchEvent::Gap { reason }) => {
                ensure_eq!(reason, GapReason::Lagged, "the reason of the gap that a slow watcher got");
                // The event of the sentinel may be lost as well.
                had_gap = true;
                round += 1;
                cx.set(&mark, round.to_string()).await?;
            }
            Some(_) => {}
            None => return Err(ended_early()),
        }
    }
}

async fn slow_watcher_is_told_of_its_loss(cx: Context) -> Verdict {
    const KEYS: u64 = 100_000;
    let mut slow = watcher(&cx).await?;
    flood(&cx, KEYS).await?;
    let (keys, had_gap) = catch_up(&cx, &mut slow).await?;
    let missing = usize::try_from(KEYS).unwrap_or(usize::MAX) - keys.len();
    ensure!(had_gap || missing == 0, "the watch did not report {missing} of the written keys, and reported no gap");
    // After the gap the watcher gets every change again.
    cx.set(["w", "later"], "v").await?;
    slow.expect_set(&key(["w", "later"]), "v").await?;
    Ok(())
}

async fn slow_watcher_disturbs_no_other(cx: Context) -> Verdict {
    let slow = watcher(&cx).await?;
    let mut quick = watcher(&cx).await?;
    for round in 0..50 {
        let own = key(["w", "quick", &round.to_string()]);
        cx.set(&own, "v").await?;
        quick.expect_set(&own, "v").await?;
        let items = numbered(round * 200..(round + 1) * 200);
        cx.set_many(&items).await?;
        for item in items.iter().rev().take(1) {
            quick.expect_set(&item.key, "v").await?;
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
            None => return Err(ended_early()),
        }
    }
}

/// The values that `list` returns under the watched prefix.
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
            Failure::new(format!("{failure}; the events so far give {known:?}, but `list` returned {expected:?}"))
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
            None => return Err(ended_early()),
        }
    }
    Ok(())
}

async fn mebibyte_values_are_reported(cx: Context) -> Verdict {
    let own = key(["w", "k"]);
    let mut watcher = watcher(&cx).await?;
    for length in [7_999, 8_000, 8_001, 65_536, 1 << 20] {
        let value: Vec<u8> = (0..length).map(|index: u32| index.to_le_bytes()[0]).collect();
        cx.set(&own, value.clone()).await?;
        watcher.expect_set(&own, &value).await?;
    }
    Ok(())
}

async fn long_keys_are_reported(cx: Context) -> Verdict {
    let own = key(["w", &"x".repeat(Key::MAX_BYTES - 2)]);
    let mut watcher = watcher(&cx).await?;
    cx.set(&own, "v").await?;
    watcher.expect_set(&own, "v").await?;
    cx.delete(&own).await?;
    watcher.expect_removed(&own).await
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
    watcher.expect_set(&key(["w", "k"]), "last").await?;
    Ok(())
}

async fn dropped_watch_leaves_the_others(cx: Context) -> Verdict {
    let own = key(["w", "k"]);
    let (dropped, mut stays) = (watcher(&cx).await?, watcher(&cx).await?);
    cx.set(&own, "before").await?;
    drop(dropped);
    stays.expect_set(&own, "before").await?;
    cx.set(&own, "after").await?;
    stays.expect_set(&own, "after").await?;
    Ok(())
}

async fn close_ends_the_stream(cx: Context) -> Verdict {
    let (mut waiting, unread) = (watcher(&cx).await?, watcher(&cx).await?);
    cx.set(["w", "k"], "v").await?;
    waiting.expect_set(&key(["w", "k"]), "v").await?;
    cx.delete(["w", "k"]).await?;
    waiting.expect_removed(&key(["w", "k"])).await?;
    let waiting = tokio::spawn(waiting.expect_end());
    cx.store().close().await?;
    unread.expect_end().await?;
    waiting.await.map_err(|error| Failure::new(format!("the reading task panicked: {error}")))?
}
