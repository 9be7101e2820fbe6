//! Watching with what is there first.

use std::collections::BTreeMap;
use std::time::Duration;

use kv_core::{Capability, Entry, Key, ListQuery, SetItem, WatchEvent, WatchQuery};

use crate::case::{Need, cases};
use crate::context::{Context, key};
use crate::failure::{Failure, Verdict, ensure, ensure_eq};
use crate::tasks::clients;
use crate::watcher::Watcher;

const WATCH: Need = Need::Has(Capability::Watch);
const LIST: Need = Need::Has(Capability::List);
const KEEPS_ALL: Need = Need::KeepsAll;

cases! { watch_snapshot, Watch:
    tells_what_is_there: "W-1" [WATCH, LIST] "a snapshot tells every live entry under the prefix, and then its end";
    of_nothing_just_ends: "W-1" [WATCH, LIST] "a snapshot of an empty prefix is its end alone";
    of_one_key: "W-1" [WATCH] "a snapshot of one key tells its entry, or nothing, and then its end";
    of_keys_only: "W-1" [WATCH, LIST] "a snapshot of keys only has no entries";
    leaves_out_the_expired: "T-1" [WATCH, LIST] "a snapshot leaves out what has expired or was deleted";
    goes_on_with_changes: "W-1" [WATCH, LIST] "after its snapshot a watch reports changes";
    longer_than_a_page: "W-1" [WATCH, LIST, KEEPS_ALL] "a snapshot of thousands of keys and megabytes is whole";
    writes_during_it_are_told: "W-1" [WATCH, LIST, KEEPS_ALL] "what is written between the call and the reading of the snapshot is told by it or after it";
    never_back_in_time: "W-2" [WATCH, LIST, KEEPS_ALL] "a snapshot beside concurrent writers never takes a key back in time";
}

fn query() -> WatchQuery {
    WatchQuery::prefix(key(["w"])).with_snapshot()
}

/// Takes an event into what the watcher knows of the store. Gives `false` for the end of the snapshot.
fn learn(known: &mut BTreeMap<Key, Option<Entry>>, event: WatchEvent) -> bool {
    match event {
        WatchEvent::Set { key, entry } => {
            known.insert(key, entry);
        }
        WatchEvent::Removed { key } => {
            known.remove(&key);
        }
        _ => return false,
    }
    true
}

/// What the watcher knows at the end of the snapshot.
async fn snapshot(watcher: &mut Watcher) -> Result<BTreeMap<Key, Option<Entry>>, Failure> {
    let mut known = BTreeMap::new();
    while learn(&mut known, watcher.event().await?) {}
    Ok(known)
}

/// What the store holds under the watched prefix.
async fn stored(cx: &Context) -> Result<BTreeMap<Key, Option<Entry>>, Failure> {
    Ok(cx.list_all(ListQuery::new(key(["w"]))).await?.into_iter().map(|item| (item.key, item.entry)).collect())
}

async fn tells_what_is_there(cx: Context) -> Verdict {
    for own in [key(["w"]), key(["w", "a"]), key(["w", "b", "c"])] {
        cx.set(&own, own.to_string()).await?;
    }
    cx.set(["wx"], "not under it").await?;
    let mut watcher = Watcher::start(cx.store(), query()).await?;
    let known = snapshot(&mut watcher).await?;
    ensure_eq!(known.len(), 3, "the number of keys in {known:?}");
    ensure_eq!(known, stored(&cx).await?, "the snapshot");
    Ok(())
}

async fn of_nothing_just_ends(cx: Context) -> Verdict {
    cx.set(["wx"], "not under it").await?;
    let mut watcher = Watcher::start(cx.store(), query()).await?;
    ensure_eq!(watcher.event().await?, WatchEvent::SnapshotEnd, "the first event");
    Ok(())
}

async fn of_one_key(cx: Context) -> Verdict {
    let own = key(["w"]);
    let mut watcher = Watcher::start(cx.store(), WatchQuery::key(own.clone()).with_snapshot()).await?;
    ensure_eq!(watcher.event().await?, WatchEvent::SnapshotEnd, "the first event of a key that is not there");
    cx.set(&own, "v").await?;
    cx.set(["w", "child"], "v").await?;
    let mut watcher = Watcher::start(cx.store(), WatchQuery::key(own.clone()).with_snapshot()).await?;
    let known = snapshot(&mut watcher).await?;
    ensure_eq!(known, BTreeMap::from([(own.clone(), Some(cx.entry(&own).await?))]), "the snapshot");
    Ok(())
}

async fn of_keys_only(cx: Context) -> Verdict {
    cx.set(["w", "a"], "1").await?;
    cx.set(["w", "b"], "2").await?;
    let mut watcher = Watcher::start(cx.store(), query().with_keys_only()).await?;
    let known = snapshot(&mut watcher).await?;
    ensure_eq!(known, BTreeMap::from([(key(["w", "a"]), None), (key(["w", "b"]), None)]), "the snapshot");
    Ok(())
}

async fn leaves_out_the_expired(cx: Context) -> Verdict {
    let ttl = Duration::from_millis(200);
    cx.set_ttl(["w", "expired"], "v", ttl).await?;
    cx.set(["w", "deleted"], "v").await?;
    cx.set(["w", "there"], "v").await?;
    cx.delete(["w", "deleted"]).await?;
    cx.outlive(ttl).await;
    let mut watcher = Watcher::start(cx.store(), query()).await?;
    let known: Vec<Key> = snapshot(&mut watcher).await?.into_keys().collect();
    ensure_eq!(known, vec![key(["w", "there"])], "the keys of the snapshot");
    Ok(())
}

async fn goes_on_with_changes(cx: Context) -> Verdict {
    let (old, new) = (key(["w", "old"]), key(["w", "new"]));
    cx.set(&old, "1").await?;
    let mut watcher = Watcher::start(cx.store(), query()).await?;
    snapshot(&mut watcher).await?;
    cx.set(&new, "2").await?;
    watcher.hears_set(&new, "2").await?;
    cx.delete(&old).await?;
    watcher.hears_removed(&old).await
}

async fn longer_than_a_page(cx: Context) -> Verdict {
    const KEYS: u64 = 3_000;
    let items: Vec<_> =
        (0..KEYS).map(|number| SetItem::new(key(["w", &Key::ordered(number)]), vec![7; 2_000])).collect();
    cx.set_many(&items).await?;
    let mut watcher = Watcher::start(cx.store(), query()).await?;
    let known = snapshot(&mut watcher).await?;
    ensure_eq!(known.len(), items.len(), "the number of keys in the snapshot");
    let is_whole = known.values().all(|entry| entry.as_ref().is_some_and(|entry| entry.value.len() == 2_000));
    ensure!(is_whole, "a value of the snapshot is not what was written");
    Ok(())
}

async fn writes_during_it_are_told(cx: Context) -> Verdict {
    let items: Vec<_> = (0..500).map(|number| SetItem::new(key(["w", &Key::ordered(number)]), "old")).collect();
    cx.set_many(&items).await?;
    let mut watcher = Watcher::start(cx.store(), query()).await?;
    let name = Key::ordered;
    for number in [0, 250, 499] {
        cx.set(["w", &name(number)], "changed").await?;
    }
    for number in [1, 251, 498] {
        cx.delete(["w", &name(number)]).await?;
    }
    cx.set(["w", &name(1_000)], "new").await?;
    let sentinel = key(["w", "sentinel"]);
    cx.set(&sentinel, "v").await?;

    // Reports of different keys may come in any order, so the watcher listens until it knows what is stored.
    let (mut known, expected) = (BTreeMap::new(), stored(&cx).await?);
    while known != expected {
        let event = watcher.event().await.map_err(|failure| {
            let wrong = expected.iter().find(|(key, entry)| known.get(*key) != Some(*entry)).map(|(key, _)| key);
            let stray = known.keys().find(|key| !expected.contains_key(*key));
            Failure::new(format!("{failure}; the watcher does not know {wrong:?}, and still knows {stray:?}"))
        })?;
        learn(&mut known, event);
    }
    Ok(())
}

async fn never_back_in_time(cx: Context) -> Verdict {
    const KEYS: usize = 12;
    const LAST: u32 = 100;
    clients(&cx, KEYS + 2, |cx, client| async move {
        if client < KEYS {
            let own = key(["w", &client.to_string()]);
            for number in 1..=LAST {
                cx.set(&own, number.to_string()).await?;
                tokio::task::yield_now().await;
            }
            return Ok(());
        }
        let mut watcher = Watcher::start(cx.store(), query()).await?;
        let mut numbers: BTreeMap<Key, u32> = BTreeMap::new();
        while numbers.len() < KEYS || numbers.values().any(|&number| number < LAST) {
            match watcher.event().await? {
                WatchEvent::Set { key, entry: Some(entry) } => {
                    let number = std::str::from_utf8(&entry.value).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
                    let before = numbers.insert(key.clone(), number).unwrap_or(0);
                    ensure!(number >= before, "{key} was told with {number} after {before}");
                }
                WatchEvent::SnapshotEnd => {}
                event => return Err(Failure::new(format!("{event:?}, and nothing was removed"))),
            }
        }
        Ok(())
    })
    .await?;
    Ok(())
}
