//! Watches of prefixes and of single keys, and several watchers.

use kv_core::{Capability, KeyPrefix, WatchEvent, WatchQuery};

use crate::case::{Need, cases};
use crate::context::{Context, key};
use crate::failure::{Verdict, ensure, ensure_eq};
use crate::watcher::{Watcher, key_of};

const WATCH: Need = Need::Has(Capability::Watch);

cases! { watch_targets, Watch:
    prefix_covers_whole_segments: "W-1" [WATCH] "a watch of a prefix reports the key of the prefix and its descendants, and no sibling";
    key_is_watched_alone: "W-1" [WATCH] "a watch of one key does not report changes of its children or parent";
    empty_prefix_covers_all: "W-1" [WATCH] "a watch of the empty prefix reports every key";
    segments_of_any_text: "K-1" [WATCH] "keys with separators, wildcards and control characters can be watched";
    two_watchers_hear_both: "W-1" [WATCH] "two watchers of one prefix both get every change";
    nested_prefixes_hear_their_own: "W-1" [WATCH] "watchers of nested prefixes each get the changes under their own prefix";
    keys_only_has_no_entries: "W-1" [WATCH] "a watch with `keys_only` reports sets and removals without entries";
}

async fn prefix_covers_whole_segments(cx: Context) -> Verdict {
    let mut watcher = Watcher::start(cx.store(), WatchQuery::prefix(key(["a", "b"]))).await?;
    for stray in [key(["a"]), key(["a", "bc"]), key(["a", "c"]), key(["ab"]), key(["b"]), key(["a", "b:c"])] {
        cx.set(&stray, "v").await?;
    }
    for own in [key(["a", "b"]), key(["a", "b", ""]), key(["a", "b", "c", "d"])] {
        cx.set(&own, "v").await?;
        let events = watcher.events_until(&own, "v").await?;
        let prefix = KeyPrefix::new(["a", "b"])?;
        let stray = events.iter().filter_map(key_of).find(|key| !prefix.covers(key));
        ensure!(stray.is_none(), "the watch of {prefix} reported {stray:?}, which is not under the prefix");
    }
    Ok(())
}

async fn key_is_watched_alone(cx: Context) -> Verdict {
    let own = key(["a", "b"]);
    let mut watcher = Watcher::start(cx.store(), WatchQuery::key(own.clone())).await?;
    for round in ["first", "second"] {
        for stray in [key(["a"]), key(["a", "b", "c"]), key(["a", "b", ""])] {
            cx.set(&stray, round).await?;
        }
        cx.set(&own, round).await?;
        for event in watcher.events_until(&own, round).await? {
            ensure_eq!(key_of(&event), Some(&own), "the key of {event:?}, reported by the watch of one key");
        }
    }
    Ok(())
}

async fn empty_prefix_covers_all(cx: Context) -> Verdict {
    let mut watcher = Watcher::start(cx.store(), WatchQuery::prefix(KeyPrefix::ALL)).await?;
    for own in [key([""]), key(["a"]), key(["b", "c"]), key(["", ""])] {
        cx.set(&own, "v").await?;
        watcher.expect_set(&own, "v").await?;
    }
    Ok(())
}

async fn segments_of_any_text(cx: Context) -> Verdict {
    for text in ["a*", "a?[b]", "%_", "a:b", "a#b", "a$b", "a/b", "\0\n", "🦀", "", "'; --", "\\", "{x}"] {
        let own = key([text, "k"]);
        let mut watcher = Watcher::start(cx.store(), WatchQuery::prefix(key([text]))).await?;
        cx.set(["ax", "k"], "v").await?;
        cx.set(&own, "v").await?;
        for event in watcher.events_until(&own, "v").await? {
            ensure!(
                key_of(&event) == Some(&own),
                "the watch of the prefix [{text:?}] reported {event:?}, which is not under the prefix"
            );
        }
    }
    Ok(())
}

async fn two_watchers_hear_both(cx: Context) -> Verdict {
    let k = key(["w", "k"]);
    let watcher = || Watcher::start(cx.store(), WatchQuery::prefix(key(["w"])));
    let (mut one, mut two) = (watcher().await?, watcher().await?);
    for value in ["a", "b"] {
        cx.set(&k, value).await?;
        one.expect_set(&k, value).await?;
        two.expect_set(&k, value).await?;
    }
    drop(one);
    cx.delete(&k).await?;
    two.expect_removed(&k).await
}

async fn nested_prefixes_hear_their_own(cx: Context) -> Verdict {
    let (near, far) = (key(["a", "b", "c"]), key(["a", "x"]));
    let mut outer = Watcher::start(cx.store(), WatchQuery::prefix(key(["a"]))).await?;
    let mut inner = Watcher::start(cx.store(), WatchQuery::prefix(key(["a", "b"]))).await?;
    cx.set(&far, "1").await?;
    outer.expect_set(&far, "1").await?;
    cx.set(&near, "2").await?;
    outer.expect_set(&near, "2").await?;
    for event in inner.events_until(&near, "2").await? {
        ensure!(
            key_of(&event) != Some(&far),
            "the watch of the prefix [\"a\", \"b\"] reported {event:?}, which is not under the prefix"
        );
    }
    Ok(())
}

async fn keys_only_has_no_entries(cx: Context) -> Verdict {
    let k = key(["w", "k"]);
    let mut watcher = Watcher::start(cx.store(), WatchQuery::prefix(key(["w"])).with_keys_only()).await?;
    cx.set(&k, "v").await?;
    let set = WatchEvent::Set { key: k.clone(), entry: None };
    ensure_eq!(watcher.event().await?, set, "the event of `set` for a watch with `keys_only`");
    cx.delete(&k).await?;
    loop {
        match watcher.event().await? {
            WatchEvent::Removed { key } if key == k => return Ok(()),
            event => ensure_eq!(event, set, "an event before the event of `delete` for a watch with `keys_only`"),
        }
    }
}
