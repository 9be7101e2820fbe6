//! Operations on a namespace omit the outer key that equals the namespace. Operations on the descendants of a key omit
//! the key itself.

use kv_core::{Capability, Key, KeyPrefix, KvStore, ListItem, ListQuery, Namespace, SetItem, WatchEvent, WatchQuery};

use crate::case::{Need, cases};
use crate::context::{Context, display_key, key};
use crate::failure::{Failure, Verdict, ensure_eq};
use crate::watcher::{Subscriber, Watcher, key_of};

const LIST: Need = Need::Has(Capability::List);
const MESSAGES: Need = Need::Has(Capability::Messages);
const WATCH: Need = Need::Has(Capability::Watch);

cases! { namespaces, List:
    clear_leaves_the_key_around: "L-5" [LIST] "`clear` of a namespace neither removes nor counts the outer key that equals the namespace";
    clear_of_descendants: "L-5" [LIST] "`clear` of the descendants of a key leaves the key itself";
    list_leaves_out_the_key_around: "L-5" [LIST] "`list` of a namespace omits the outer key that equals the namespace, and `list` of the descendants of a key omits the key itself, in either direction and with any limit";
    watch_leaves_out_the_key_around: "L-5" [LIST, WATCH] "a watch of a namespace omits the outer key that equals the namespace, and a watch of the descendants of a key omits the key itself";
    snapshot_leaves_out_the_key_around: "L-5" [LIST, WATCH] "the snapshot of a namespace omits the outer key that equals the namespace, and the snapshot of the descendants of a key omits the key itself";
    messages_leave_out_the_channel_around: "L-5" [MESSAGES] "a subscription in a namespace omits messages of the outer channel that equals the namespace, and a subscription to the descendants of a channel omits messages of the channel itself";
}

/// A namespace, and the outer key that consists of exactly the namespace's segments.
struct WithOuterKey {
    namespace: Namespace,
    key: Key,
}

impl WithOuterKey {
    /// Namespaces of one segment, of several segments, and of the empty segment.
    fn all() -> Result<[Self; 3], Failure> {
        let pair = |segments: &[&str], segment| {
            Ok::<_, Failure>(Self { namespace: Namespace::new(segments)?, key: key([segment]) })
        };
        Ok([pair(&["app"], "app")?, pair(&["app", "eu"], "app#eu")?, pair(&[""], "")?])
    }

    /// The keys of [`KEYS`] as the outer store sees them.
    fn wrapped(&self) -> Vec<Key> {
        KEYS.iter().map(|name| self.namespace.wrap(&key([name]))).collect()
    }

    /// Writes the outer key, and [`KEYS`] in the namespace.
    async fn write(&self, cx: &Context) -> Verdict {
        let inside = self.wrapped();
        let items: Vec<SetItem> =
            std::iter::once(&self.key).chain(&inside).map(|key| SetItem::new(key.clone(), key.to_string())).collect();
        cx.set_many(&items).await
    }
}

/// The keys in a namespace. The first key has one empty segment: its stored key comes directly after the outer key.
const KEYS: [&str; 3] = ["", "a", "b"];

fn keys_inside() -> Vec<Key> {
    KEYS.iter().map(|name| key([name])).collect()
}

async fn clear_leaves_the_key_around(cx: Context) -> Verdict {
    for pair in WithOuterKey::all()? {
        let inside = cx.in_namespace(&pair.namespace);
        cx.set(&pair.key, "outside").await?;
        let cleared = inside.store().clear(&KeyPrefix::ALL).await?;
        ensure_eq!(cleared, 0, "the number that `clear` of the empty namespace {} returned", pair.namespace);
        cx.expect(&pair.key, "outside").await?;
        pair.write(&cx).await?;
        let cleared = inside.store().clear(&KeyPrefix::ALL).await?;
        ensure_eq!(cleared, 3, "the number that `clear` of the namespace {} returned", pair.namespace);
        cx.expect(&pair.key, pair.key.to_string()).await?;
        ensure_eq!(inside.keys(()).await?, [], "the keys that `list` of the namespace returned after `clear`");
        ensure_eq!(
            cx.keys(&pair.key).await?,
            std::slice::from_ref(&pair.key),
            "the keys that `list` of {} returned after `clear` of the namespace",
            display_key(&pair.key)
        );
    }
    Ok(())
}

async fn clear_of_descendants(cx: Context) -> Verdict {
    for own in [key(["app"]), key(["app", "eu"]), key([""]), key(["a#", "$"])] {
        let (child, empty, deep) = (own.child("a")?, own.child("")?, own.child("a")?.child("b")?);
        let outside = [key(["app2"]), key(["ap"]), key(["app", "eu2"]), key(["a#", "$$"])];
        for key in [&own, &child, &empty, &deep].into_iter().chain(&outside) {
            cx.set(key, "v").await?;
        }
        let cleared = cx.store().clear(&KeyPrefix::descendants(&own)).await?;
        let expected = 3 + outside.iter().filter(|key| KeyPrefix::descendants(&own).covers(key)).count() as u64;
        ensure_eq!(cleared, expected, "the number that `clear` of the descendants of {} returned", display_key(&own));
        cx.expect(&own, "v").await?;
        for key in [child, empty, deep] {
            cx.expect_absent(key).await?;
        }
        cx.expect(["app2"], "v").await?;
        cx.expect(["ap"], "v").await?;
        cx.expect(["a#", "$$"], "v").await?;
        let cleared = cx.store().clear(&KeyPrefix::descendants(&own)).await?;
        ensure_eq!(cleared, 0, "the number that a second `clear` of the descendants of {} returned", display_key(&own));
        cx.clean_up().await?;
    }
    Ok(())
}

async fn list_leaves_out_the_key_around(cx: Context) -> Verdict {
    for pair in WithOuterKey::all()? {
        let inside = cx.in_namespace(&pair.namespace);
        cx.set(&pair.key, "outside").await?;
        expect_listed(&inside, KeyPrefix::ALL, &[]).await?;
        expect_listed(&cx, KeyPrefix::descendants(&pair.key), &[]).await?;
        pair.write(&cx).await?;
        expect_listed(&inside, KeyPrefix::ALL, &keys_inside()).await?;
        expect_listed(&cx, KeyPrefix::descendants(&pair.key), &pair.wrapped()).await?;
        let mut whole = pair.wrapped();
        whole.insert(0, pair.key.clone());
        expect_listed(&cx, pair.key.clone().into(), &whole).await?;
        cx.clean_up().await?;
    }
    Ok(())
}

/// Fails unless lists of the prefix return these keys in both directions, with any limit, and with or without entries.
async fn expect_listed(cx: &Context, prefix: KeyPrefix, keys: &[Key]) -> Verdict {
    for limit in [None, Some(1), Some(2), Some(3), Some(4)] {
        for reverse in [false, true] {
            let mut query = ListQuery::new(prefix.clone());
            (query.limit, query.reverse, query.keys_only) = (limit, reverse, limit == Some(2));
            let mut expected = keys.to_vec();
            if reverse {
                expected.reverse();
            }
            let listed = cx.list_all(query.clone()).await?.into_iter();
            let listed: Vec<Key> = listed.map(|ListItem { key, .. }| key).collect();
            ensure_eq!(listed, expected, "the keys that `list` returned for {query:?}");
        }
    }
    Ok(())
}

async fn watch_leaves_out_the_key_around(cx: Context) -> Verdict {
    for pair in WithOuterKey::all()? {
        let inside = cx.in_namespace(&pair.namespace);
        let descendants = WatchQuery::prefix(KeyPrefix::descendants(&pair.key));
        let mut watchers = [
            (Watcher::start(inside.store(), WatchQuery::prefix(KeyPrefix::ALL)).await?, key(["last"])),
            (Watcher::start(cx.store(), descendants).await?, pair.namespace.wrap(&key(["last"]))),
        ];
        cx.set(&pair.key, "one").await?;
        cx.delete(&pair.key).await?;
        cx.set(&pair.key, "two").await?;
        inside.set(["last"], "v").await?;
        for (watcher, last) in &mut watchers {
            let events = watcher.events_until(last, "v").await?;
            ensure_eq!(events, [], "the events of the watch before the event of {}", display_key(last));
        }
        cx.clean_up().await?;
    }
    Ok(())
}

async fn snapshot_leaves_out_the_key_around(cx: Context) -> Verdict {
    for pair in WithOuterKey::all()? {
        let inside = cx.in_namespace(&pair.namespace);
        pair.write(&cx).await?;
        let descendants = WatchQuery::prefix(KeyPrefix::descendants(&pair.key)).with_snapshot();
        expect_snapshot(&inside, WatchQuery::prefix(KeyPrefix::ALL).with_snapshot(), keys_inside()).await?;
        expect_snapshot(&cx, descendants, pair.wrapped()).await?;
        cx.clean_up().await?;
    }
    Ok(())
}

/// Fails unless the snapshot of the watch consists of these keys.
async fn expect_snapshot(cx: &Context, query: WatchQuery, keys: Vec<Key>) -> Verdict {
    let mut watcher = Watcher::start(cx.store(), query.clone()).await?;
    let mut found = Vec::new();
    loop {
        let event = watcher.event().await?;
        if event == WatchEvent::SnapshotEnd {
            break;
        }
        found.extend(key_of(&event).cloned());
    }
    found.sort();
    ensure_eq!(found, keys, "the keys in the snapshot of {query:?}");
    Ok(())
}

async fn messages_leave_out_the_channel_around(cx: Context) -> Verdict {
    for pair in WithOuterKey::all()? {
        let inside = cx.in_namespace(&pair.namespace);
        let mut in_namespace = Subscriber::start(inside.store(), KeyPrefix::ALL).await?;
        let mut of_descendants = Subscriber::start(cx.store(), KeyPrefix::descendants(&pair.key)).await?;
        cx.store().publish(&pair.key, "outside".into()).await?;
        inside.store().publish(&key(["c"]), "inside".into()).await?;
        in_namespace.expect_message(&key(["c"]), "inside").await?;
        of_descendants.expect_message(&pair.namespace.wrap(&key(["c"])), "inside").await?;
    }
    Ok(())
}
