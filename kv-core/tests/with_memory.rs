//! Features that need a store with every capability: transactions, counters, watching and messages.
#![allow(clippy::unwrap_used, reason = "a test and its helpers may panic")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use kv_core::{
    ChangeSink, Clock, CommitOutcome, ErrorKind, Expiry, GapReason, GetOptions, GetOutcome, Key, KeyPrefix, Kv,
    KvStore, ManualClock, MessageEvent, Moment, Namespace, Namespaced, SetItem, SetOptions, WatchEvent, WatchTarget,
};
use kv_memory::MemoryStore;

fn kv() -> Kv {
    Kv::new(MemoryStore::new()).namespace(["app"]).unwrap()
}

fn key(segments: &[&str]) -> Key {
    Key::new(segments).unwrap()
}

#[tokio::test]
async fn a_transaction_applies_all_or_nothing_and_returns_the_failed_check() {
    let kv = kv();
    let version = kv.set(["from"], &10).await.unwrap().unwrap();
    let move_it = || {
        kv.transaction()
            .check_absent(["to"])
            .check_version(["from"], version)
            .check_value(["from"], &10)
            .check_present(["from"])
            .delete(["from"])
            .set(["to"], &10)
            .set_with_ttl(["log", "1"], "moved", Duration::from_secs(60))
            .set_bytes(["log", "2"], "raw", Expiry::Never)
    };
    let CommitOutcome::Committed { versions } = move_it().commit().await.unwrap() else { panic!() };
    assert_eq!(versions.iter().map(Option::is_some).collect::<Vec<_>>(), [false, true, true, true]);
    assert_eq!(kv.get_entry(["to"]).await.unwrap().unwrap().version, versions[1]);
    assert!(!kv.contains(["from"]).await.unwrap());

    assert_eq!(move_it().commit().await.unwrap(), CommitOutcome::Refused { check: 0 });
    assert!(kv.delete(["to"]).await.unwrap());
    assert_eq!(move_it().commit().await.unwrap(), CommitOutcome::Refused { check: 1 });
    assert!(!kv.contains(["to"]).await.unwrap());
    assert!(kv.transaction().commit().await.unwrap().is_committed());
}

#[tokio::test]
async fn a_transaction_uses_the_default_expiry_of_the_handle() {
    let clock = ManualClock::new();
    let store = MemoryStore::builder().clock(Arc::new(clock.clone())).build().unwrap();
    let ttl = Duration::from_secs(60);
    let kv = Kv::new(store).with_default_expiry(Expiry::After(ttl));
    let written = kv.transaction().set(["a"], "").set_with_expiry(["b"], "", Expiry::Never).commit().await.unwrap();
    assert!(written.is_committed());
    let left = async |name: &str| kv.get_entry([name]).await.unwrap().unwrap().expires.remaining(clock.now());
    assert_eq!((left("a").await, left("b").await), (Some(ttl), None));
    assert_eq!(kv.increment(["n"], 2).await.unwrap(), 2);
    assert_eq!(kv.increment(["m"], 2).forever().await.unwrap(), 2);
    assert_eq!((left("n").await, left("m").await), (Some(ttl), None));
    assert_eq!(kv.increment(["n"], -3).ttl(ttl * 2).await.unwrap(), -1);
    assert_eq!((left("n").await, kv.get::<i64>(["n"]).await.unwrap()), (Some(ttl), Some(-1)));
}

#[tokio::test]
async fn a_watch_sends_the_snapshot_and_then_changes() {
    let kv = kv();
    kv.set(["users", "1"], "ada").await.unwrap();
    let mut all = kv.watch(["users"]).with_snapshot().await.unwrap();
    let mut one = kv.watch_key(["users", "2"]).keys_only().await.unwrap();
    kv.set(["users", "2"], "grace").await.unwrap();
    kv.set(["other"], "").await.unwrap();

    let mut next = async || all.next().await.unwrap().unwrap();
    let WatchEvent::Set { key: first, entry: Some(entry) } = next().await else { panic!() };
    assert_eq!((first, kv.decode::<String>(&entry.value).unwrap().as_str()), (key(&["users", "1"]), "ada"));
    let mut rest = vec![next().await, next().await];
    if matches!(rest.last(), Some(WatchEvent::SnapshotEnd)) {
        rest.push(next().await);
    }
    assert!(rest.contains(&WatchEvent::SnapshotEnd));
    assert!(rest.iter().any(|event| matches!(event, WatchEvent::Set { key: k, .. } if *k == key(&["users", "2"]))));

    assert_eq!(one.next().await.unwrap().unwrap(), WatchEvent::Set { key: key(&["users", "2"]), entry: None });
    assert!(kv.delete(["users", "2"]).await.unwrap());
    assert_eq!(one.next().await.unwrap().unwrap(), WatchEvent::Removed { key: key(&["users", "2"]) });
}

#[tokio::test]
async fn a_message_reaches_subscribers_of_its_channel_in_the_same_namespace() {
    let kv = kv();
    let mut inbox = kv.subscribe(["rooms"]).await.unwrap();
    kv.publish(["hall"], "no").await.unwrap();
    kv.namespace(["elsewhere"]).unwrap().publish(["rooms", "1"], "no").await.unwrap();
    kv.publish(["rooms", "1"], &vec![1, 2]).await.unwrap();
    kv.publish_bytes(["rooms", "1"], vec![0, 255]).await.unwrap();
    let mut next = async || match inbox.next().await.unwrap().unwrap() {
        MessageEvent::Message(message) => message,
        other => panic!("{other:?}"),
    };
    let first = next().await;
    assert_eq!((first.channel, kv.decode::<Vec<u8>>(&first.payload).unwrap()), (key(&["rooms", "1"]), vec![1, 2]));
    assert_eq!(next().await.payload, [0, 255].as_slice());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_tasks_lose_no_update_in_memory() {
    let kv = kv();
    let add = |kv: Kv| async move {
        for _ in 0..100 {
            kv.update(["n"], |n: Option<u64>| Some(n.unwrap_or(0) + 1)).await.unwrap();
        }
    };
    let tasks: Vec<_> = (0..16).map(|_| tokio::spawn(add(kv.clone()))).collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(kv.get::<u64>(["n"]).await.unwrap(), Some(1_600));
}

#[test]
fn a_shared_store_is_not_wrapped_again() {
    let store: Arc<dyn KvStore> = Arc::new(MemoryStore::new());
    assert!(Arc::ptr_eq(Kv::new(Arc::clone(&store)).store(), &store));
    assert!(Arc::ptr_eq(Kv::from(Arc::clone(&store)).store(), &store));
}

#[tokio::test]
async fn closing_a_handle_closes_the_store_for_all_handles() {
    let kv = kv();
    let other = kv.namespace(["inner"]).unwrap();
    kv.ping().await.unwrap();
    kv.flush().await.unwrap();
    let mut changes = other.watch(()).await.unwrap();
    kv.close().await.unwrap();
    assert!(changes.next().await.is_none());
    assert_eq!(other.set(["k"], "v").await.unwrap_err().kind(), ErrorKind::Closed);
    kv.close().await.unwrap();
}

#[tokio::test]
async fn clearing_a_namespace_leaves_the_key_that_consists_of_the_segment_of_the_namespace() {
    let root = Kv::new(MemoryStore::new());
    let app = root.namespace(["app"]).unwrap();
    root.set(["app"], &1).await.unwrap();
    app.set(["a"], &2).await.unwrap();
    root.namespace(["app", "eu"]).unwrap().set(["b"], &3).await.unwrap();
    assert_eq!(app.clear(()).await.unwrap(), 1);
    assert_eq!(root.get::<u32>(["app"]).await.unwrap(), Some(1));
    assert_eq!(root.namespace(["app", "eu"]).unwrap().get::<u32>(["b"]).await.unwrap(), Some(3));
    // A clear of that prefix through the root handle removes the key and its descendants.
    app.set(["a"], &2).await.unwrap();
    assert_eq!(root.clear(["app"]).await.unwrap(), 2);
}

#[tokio::test]
async fn a_key_that_two_namespaces_make_too_long_is_refused() {
    let outer = Namespaced::new(MemoryStore::new(), Namespace::new(["n".repeat(300)]).unwrap());
    let store = Namespaced::new(outer, Namespace::new(["m".repeat(300)]).unwrap());
    let (long, short) = (Key::new(["k".repeat(Key::MAX_BYTES)]).unwrap(), key(&["k"]));
    let set = store.set(&long, "v".into(), &SetOptions::default()).await;
    assert_eq!(set.unwrap_err().kind(), ErrorKind::Invalid);
    let items = [SetItem::new(short.clone(), "v"), SetItem::new(long.clone(), "v")];
    let results = store.set_many(&items).await;
    assert!(results[0].is_ok());
    let error = results[1].as_ref().unwrap_err();
    assert_eq!((error.kind(), error.key()), (ErrorKind::Invalid, Some(&long)));
    assert!(store.get(&short).await.unwrap().is_some());
}

#[tokio::test]
async fn a_snapshot_and_a_list_yield_between_the_items_of_a_page() {
    let kv = kv();
    kv.set_many((0..3_000).map(|number| ([number.to_string()], number))).await.all().unwrap();
    let mut snapshot = kv.watch(()).with_snapshot().await.unwrap();
    let mut list = kv.list::<u32>(()).page_size(3_000);
    // The first item reads the page.
    assert!(snapshot.next().await.is_some() && list.next().await.is_some());
    let other = tokio::spawn(async {});
    let mut items = 0;
    while !other.is_finished() {
        assert!(snapshot.next().await.is_some() && items < 1_000, "the snapshot does not yield");
        items += 1;
    }
    let other = tokio::spawn(async {});
    let mut items = 0;
    while !other.is_finished() {
        assert!(list.next().await.is_some() && items < 1_000, "the list does not yield");
        items += 1;
    }
}

#[tokio::test]
async fn a_watch_of_changes_only_names_the_keys() {
    let kv = kv();
    let mut changes = kv.watch(["users"]).changes_only().await.unwrap();
    kv.set(["users", "1"], "ada").await.unwrap();
    let event = changes.next().await.unwrap().unwrap();
    assert_eq!(event, WatchEvent::Changed { key: key(&["users", "1"]) });
}

/// A sink that records its calls.
#[derive(Debug, Default)]
struct Recorded(Mutex<Vec<String>>);

impl ChangeSink for Recorded {
    fn changed(&self, key: &Key) {
        self.0.lock().unwrap().push(key.as_str().to_owned());
    }

    fn current(&self, _as_of: Moment) {
        self.0.lock().unwrap().push("(current)".to_owned());
    }

    fn lost(&self, reason: GapReason) {
        self.0.lock().unwrap().push(format!("(lost: {reason:?})"));
    }
}

#[tokio::test]
async fn a_sink_in_a_namespace_gets_the_keys_of_the_namespace() {
    let store = MemoryStore::new();
    let inside = Namespaced::new(store.clone(), Namespace::new(["app"]).unwrap());
    let (all, one) = (Arc::new(Recorded::default()), Arc::new(Recorded::default()));
    let target = WatchTarget::from(KeyPrefix::ALL);
    let _all = inside.watch_into(&target, Arc::clone(&all) as Arc<dyn ChangeSink>).await.unwrap();
    let target = WatchTarget::Key(key(&["k"]));
    let _one = inside.watch_into(&target, Arc::clone(&one) as Arc<dyn ChangeSink>).await.unwrap();
    for outside in [key(&["app"]), key(&["k"]), key(&["app2", "k"])] {
        let _ = store.set(&outside, "1".into(), &SetOptions::default()).await.unwrap();
    }
    for own in [key(&["k"]), key(&["k", "child"])] {
        let _ = inside.set(&own, "1".into(), &SetOptions::default()).await.unwrap();
    }
    inside.close().await.unwrap();
    assert_eq!(*all.0.lock().unwrap(), ["(current)", "k", "k#child", "(lost: Closed)"]);
    assert_eq!(*one.0.lock().unwrap(), ["(current)", "k", "(lost: Closed)"]);
}

#[tokio::test]
async fn a_read_with_a_version_works_in_a_namespace() {
    let clock = ManualClock::new();
    let store = MemoryStore::builder().clock(Arc::new(clock.clone())).build().unwrap();
    let inside = Namespaced::new(store, Namespace::new(["app"]).unwrap());
    let version = inside.set(&key(&["k"]), "1".into(), &SetOptions::default()).await.unwrap().version().unwrap();
    let options = GetOptions::default().with_unless_version(version);
    let outcome = inside.get_with(&key(&["k"]), &options).await.unwrap();
    assert_eq!(outcome, GetOutcome::NotModified { expires: kv_core::Expires::Never });
    assert_eq!(inside.time().await.unwrap(), clock.now());
}
