//! Watches: changes at moments when a watch could easily lose them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kv_core::{Capability, Key, KvStore, ListQuery, WatchEvent, WatchQuery};
use tokio::task::JoinSet;

use super::changes::{k, watcher, watcher_after_set};
use crate::case::{Need, cases};
use crate::context::{Context, key};
use crate::failure::{Failure, Verdict};
use crate::watcher::Watcher;

const WATCH: Need = Need::Has(Capability::Watch);
const LIST: Need = Need::Has(Capability::List);

const TTL: Duration = Duration::from_millis(200);

cases! { watch_moments, Watch:
    sweep_before_delivery: "W-1" [WATCH] "a `sweep` between a `delete` and the reading of its event does not lose the event";
    expiry_without_a_call: "W-1" [WATCH, Need::WatchExpiry] "a watch reports an expired entry as removed without a further call";
    writes_while_it_opens: "W-8" [WATCH, LIST, Need::KeepsAll] "a write that is made while a watch with a snapshot opens is in the snapshot, or is reported after it";
    writes_while_it_opens_on_one_key: "W-8" [WATCH] "a write that is made while a watch of one key with a snapshot opens is in the snapshot, or is reported after it";
}

async fn sweep_before_delivery(cx: Context) -> Verdict {
    let mut watcher = watcher_after_set(&cx, "v").await?;
    cx.set_ttl(["w", "expired"], "v", TTL).await?;
    cx.delete(k()).await?;
    cx.advance_past(TTL).await;
    for _ in 0..2 {
        cx.store().sweep().await?;
    }
    watcher.expect_removed(&k()).await
}

async fn expiry_without_a_call(cx: Context) -> Verdict {
    let mut watcher = watcher(&cx).await?;
    cx.set_ttl(k(), "v", TTL).await?;
    cx.advance_past(TTL).await;
    if cx.moves_clock() {
        // The background task works at intervals of the store's clock.
        cx.advance(Duration::from_secs(3_600)).await;
    }
    watcher.expect_removed(&k()).await
}

/// The number of times that a watch is opened.
const ROUNDS: u32 = 20;

async fn writes_while_it_opens(cx: Context) -> Verdict {
    const WRITERS: u32 = 3;
    /// Fewer changes than the queue of a watcher holds, so that a gap would be a failure.
    const MAX_WRITES: u32 = 300;
    for round in 0..ROUNDS {
        let own =
            move |writer: u32, number: u32| key(["w", &round.to_string(), &writer.to_string(), &number.to_string()]);
        let is_open = Arc::new(AtomicBool::new(false));
        let mut writers = JoinSet::new();
        for writer in 0..WRITERS {
            let (cx, is_open) = (cx.clone(), Arc::clone(&is_open));
            writers.spawn(async move {
                // Each write has a key of its own, so that a later event cannot hide a lost event.
                for number in 0..MAX_WRITES {
                    if is_open.load(Ordering::Acquire) {
                        break;
                    }
                    cx.set(own(writer, number), "v").await?;
                    if number % 3 == 2 {
                        cx.delete(own(writer, number - 1)).await?;
                    }
                    tokio::task::yield_now().await;
                }
                Ok::<_, Failure>(())
            });
        }
        tokio::task::yield_now().await;
        let query = WatchQuery::prefix(key(["w", &round.to_string()])).with_snapshot();
        let mut watcher = Watcher::start(cx.store(), query).await?;
        is_open.store(true, Ordering::Release);
        while let Some(ended) = writers.join_next().await {
            ended.map_err(|error| Failure::new(format!("a writing task panicked: {error}")))??;
        }
        expect_view(&cx, &mut watcher, key(["w", &round.to_string()])).await?;
    }
    Ok(())
}

/// Reads events until the watcher knows exactly the entries under the prefix.
async fn expect_view(cx: &Context, watcher: &mut Watcher, prefix: Key) -> Verdict {
    let stored = cx.list_all(ListQuery::new(prefix)).await?;
    let stored: BTreeMap<Key, _> = stored.into_iter().map(|item| (item.key, item.entry)).collect();
    let mut known = BTreeMap::new();
    while known != stored {
        let event = watcher.event().await.map_err(|failure| {
            let lost = stored.iter().find(|(key, entry)| known.get(*key) != Some(*entry)).map(|(key, _)| key);
            let stray = known.keys().find(|key| !stored.contains_key(*key));
            Failure::new(format!("{failure}; the watch did not report the set of {lost:?} or the delete of {stray:?}"))
        })?;
        match event {
            WatchEvent::Set { key, entry } => drop(known.insert(key, entry)),
            WatchEvent::Removed { key } => drop(known.remove(&key)),
            _ => {}
        }
    }
    Ok(())
}

async fn writes_while_it_opens_on_one_key(cx: Context) -> Verdict {
    for round in 0..ROUNDS {
        let own = key(["w", &round.to_string()]);
        let writing = tokio::spawn({
            let (cx, own) = (cx.clone(), own.clone());
            async move {
                for number in 0..=round {
                    cx.set(&own, number.to_string()).await?;
                    tokio::task::yield_now().await;
                }
                Ok::<_, Failure>(())
            }
        });
        let mut watcher = Watcher::start(cx.store(), WatchQuery::key(own.clone()).with_snapshot()).await?;
        writing.await.map_err(|error| Failure::new(format!("the writing task panicked: {error}")))??;
        watcher.expect_set(&own, round.to_string()).await?;
    }
    Ok(())
}
