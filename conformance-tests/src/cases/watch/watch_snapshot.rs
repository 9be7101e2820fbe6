//! Watches that start with a snapshot.

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
    tells_what_is_there: "W-1" [WATCH, LIST] "a snapshot has every live entry under the prefix, and then SnapshotEnd";
    of_nothing_just_ends: "W-1" [WATCH, LIST] "a snapshot of a prefix without entries is SnapshotEnd alone";
    of_one_key: "W-1" [WATCH] "a snapshot of one key has the entry of the key, if there is an entry, and then SnapshotEnd";
    of_keys_only: "W-1" [WATCH, LIST] "a snapshot with `keys_only` has no entries";
    leaves_out_the_expired: "T-1" [WATCH, LIST] "a snapshot has no expired and no deleted entries";
    goes_on_with_changes: "W-1" [WATCH, LIST] "a watch reports changes after its snapshot";
    longer_than_a_page: "W-1" [WATCH, LIST, KEEPS_ALL] "a snapshot of thousands of keys and megabytes is complete";
    writes_during_it_are_told: "W-1" [WATCH, LIST, KEEPS_ALL] "a write between the call of `watch` and the reading of the snapshot is in the snapshot, or is reported after it";
    never_back_in_time: "W-2" [WATCH, LIST, KEEPS_ALL] "a watch with a snapshot during concurrent writes reports no older value after a newer value";
}

fn query() -> WatchQuery {
    WatchQuery::prefix(key(["w"])).with_snapshot()
}

/// Applies an event to the watcher's view of the store. Returns false at the end of the snapshot.
fn apply(known: &mut BTreeMap<Key, Option<Entry>>, event: WatchEvent) -> bool {
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

/// The watcher's view at the end of the snapshot.
async fn read_snapshot(watcher: &mut Watcher) -> Result<BTreeMap<Key, Option<Entry>>, Failure> {
    let mut known = BTreeMap::new();
    while apply(&mut known, watcher.event().await?) {}
    Ok(known)
}

/// The entries that `list` returns under the watched prefix.
async fn stored(cx: &Context) -> Result<BTreeMap<Key, Option<Entry>>, Failure> {
    Ok(cx.list_all(ListQuery::new(key(["w"]))).await?.into_iter().map(|item| (item.key, item.entry)).collect())
}

async fn tells_what_is_there(cx: Context) -> Verdict {
    for own in [key(["w"]), key(["w", "a"]), key(["w", "b", "c"])] {
        cx.set(&own, own.to_string()).await?;
    }
    cx.set(["wx"], "not under it").await?;
    let mut watcher = Watcher::start(cx.store(), query()).await?;
    let known = read_snapshot(&mut watcher).await?;
    ensure_eq!(known.len(), 3, "the number of keys in the snapshot {known:?}");
    ensure_eq!(known, stored(&cx).await?, "the entries of the snapshot, compared with `list`");
    Ok(())
}

async fn of_nothing_just_ends(cx: Context) -> Verdict {
    cx.set(["wx"], "not under it").await?;
    let mut watcher = Watcher::start(cx.store(), query()).await?;
    ensure_eq!(watcher.event().await?, WatchEvent::SnapshotEnd, "the first event of a snapshot without entries");
    Ok(())
}

async fn of_one_key(cx: Context) -> Verdict {
    let own = key(["w"]);
    let mut watcher = Watcher::start(cx.store(), WatchQuery::key(own.clone()).with_snapshot()).await?;
    ensure_eq!(watcher.event().await?, WatchEvent::SnapshotEnd, "the first event of a snapshot of an absent key");
    cx.set(&own, "v").await?;
    cx.set(["w", "child"], "v").await?;
    let mut watcher = Watcher::start(cx.store(), WatchQuery::key(own.clone()).with_snapshot()).await?;
    let known = read_snapshot(&mut watcher).await?;
    ensure_eq!(
        known,
        BTreeMap::from([(own.clone(), Some(cx.entry(&own).await?))]),
        "the entries of the snapshot of one key"
    );
    Ok(())
}

async fn of_keys_only(cx: Context) -> Verdict {
    cx.set(["w", "a"], "1").await?;
    cx.set(["w", "b"], "2").await?;
    let mut watcher = Watcher::start(cx.store(), query().with_keys_only()).await?;
    let known = read_snapshot(&mut watcher).await?;
    ensure_eq!(
        known,
        BTreeMap::from([(key(["w", "a"]), None), (key(["w", "b"]), None)]),
        "the entries of the snapshot with `keys_only`"
    );
    Ok(())
}

async fn leaves_out_the_expired(cx: Context) -> Verdict {
    let ttl = Duration::from_millis(200);
    cx.set_ttl(["w", "expired"], "v", ttl).await?;
    cx.set(["w", "deleted"], "v").await?;
    cx.set(["w", "there"], "v").await?;
    cx.delete(["w", "deleted"]).await?;
    cx.advance_past(ttl).await;
    let mut watcher = Watcher::start(cx.store(), query()).await?;
    let known: Vec<Key> = read_snapshot(&mut watcher).await?.into_keys().collect();
    ensure_eq!(known, vec![key(["w", "there"])], "the keys of the snapshot");
    Ok(())
}

async fn goes_on_with_changes(cx: Context) -> Verdict {
    let (old, new) = (key(["w", "old"]), key(["w", "new"]));
    cx.set(&old, "1").await?;
    let mut watcher = Watcher::start(cx.store(), query()).await?;
    read_snapshot(&mut watcher).await?;
    cx.set(&new, "2").await?;
    watcher.expect_set(&new, "2").await?;
    cx.delete(&old).await?;
    watcher.expect_removed(&old).await
}

async fn longer_than_a_page(cx: Context) -> Verdict {
    const KEYS: u64 = 3_000;
    let items: Vec<_> =
        (0..KEYS).map(|number| SetItem::new(key(["w", &Key::ordered(number)]), vec![7; 2_000])).collect();
    cx.set_many(&items).await?;
    let mut watcher = Watcher::start(cx.store(), query()).await?;
    let known = read_snapshot(&mut watcher).await?;
    ensure_eq!(known.len(), items.len(), "the number of keys in the snapshot");
    let is_whole = known.values().all(|entry| entry.as_ref().is_some_and(|entry| entry.value.len() == 2_000));
    ensure!(is_whole, "the snapshot has a value that differs from the value that `set_many` wrote");
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

    // Events of different keys may come in any order, so the watcher reads until its view equals the store.
    let (mut known, expected) = (BTreeMap::new(), stored(&cx).await?);
    while known != expected {
        let event = watcher.event().await.map_err(|failure| {
            let outdated = expected.iter().find(|(key, entry)| known.get(*key) != Some(*entry)).map(|(key, _)| key);
            let stray = known.keys().find(|key| !expected.contains_key(*key));
            Failure::new(format!(
                "{failure}; the events so far lack the last state of {outdated:?} and the removal of {stray:?}"
            ))
        })?;
        apply(&mut known, event);
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
                    ensure!(number >= before, "the watch reported {key} with the older number {number} after {before}");
                }
                WatchEvent::SnapshotEnd => {}
                event => {
                    return Err(Failure::new(format!(
                        "expected only Set events, since nothing was removed, but the watch sent {event:?}"
                    )));
                }
            }
        }
        Ok(())
    })
    .await?;
    Ok(())
}
