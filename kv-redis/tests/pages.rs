//! Lists and transactions over several buckets, and pages of values of unknown lengths.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use kv_core::{
    Clock, DeleteOptions, Expiry, Key, KeyPrefix, KvStore, ListQuery, SetItem, SetOptions, SystemClock, Transaction,
    Transactions,
};
use kv_redis::{Format, Index, RedisStore};
use test_servers::redis::Redis;

mod support;
use support::{at, key, keys, set};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_over_several_buckets_updates_the_index_of_each() {
    let server = Redis::start().unwrap();
    let store = at(&format!("{}?buckets=4", server.url())).open().await.unwrap();
    assert_eq!(store.info().capabilities.transactions, Transactions::Any);
    let names: Vec<Key> = (10..40).map(key).collect();
    let all = names.iter().fold(Transaction::new(), |all, name| all.set(name.clone(), "1", Expiry::Never));
    assert!(store.commit(&all).await.unwrap().is_committed());
    assert_eq!(keys(&store).await, names);
    // Single sets of the same keys add no key to another index.
    for name in 10..40 {
        let _ = set(&store, name, "2").await.unwrap();
    }
    assert_eq!(keys(&store).await, names);
    let (deleted, kept) = names.split_at(15);
    let some = deleted.iter().fold(Transaction::new(), |some, name| some.delete(name.clone()));
    assert!(store.commit(&some).await.unwrap().is_committed());
    assert_eq!(keys(&store).await, kept);
    assert!(store.delete(&kept[0], &DeleteOptions::default()).await.unwrap().is_deleted());
    assert_eq!(store.clear(&KeyPrefix::ALL).await.unwrap(), 14);
    assert_eq!(keys(&store).await, []);
    // No index has a member left.
    assert_eq!(server.cli(&["KEYS", "kv!{*"]).unwrap().trim(), "");
}

/// Lists all pages of a prefix. Returns the second segment of each key, and the largest number of bytes of values in a
/// page.
async fn list_all(store: &RedisStore, prefix: &str, max_page_bytes: usize) -> (Vec<String>, usize) {
    let prefix = KeyPrefix::new([prefix]).unwrap();
    let (mut query, mut found, mut longest) =
        (ListQuery::new(prefix).with_max_page_bytes(max_page_bytes), Vec::new(), 0);
    loop {
        let page = store.list(&query).await.unwrap();
        longest = longest.max(page.items.iter().map(|item| item.entry.as_ref().unwrap().value.len()).sum());
        found.extend(page.items.into_iter().map(|item| item.key.segments().nth(1).unwrap().into_owned()));
        let Some(next) = page.next else { return (found, longest) };
        query = query.resume(next);
    }
}

/// Sets `count` entries with values of `bytes` bytes. Returns the second segments of their keys, in order.
async fn fill(store: &RedisStore, prefix: &str, count: usize, bytes: usize) -> Vec<String> {
    let value = bytes::Bytes::from(vec![b'x'; bytes]);
    let mut names: Vec<String> = (0..count).map(|number| number.to_string()).collect();
    for names in names.chunks((8 << 20) / bytes.max(1 << 14)) {
        let item = |name: &String| SetItem::new(Key::new([prefix, name]).unwrap(), value.clone());
        let items: Vec<_> = names.iter().map(item).collect();
        assert!(store.set_many(&items).await.into_iter().all(|outcome| outcome.unwrap().is_stored()));
    }
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_sends_little_more_than_fits_in_a_page_of_long_values() {
    const MAX_PAGE_BYTES: usize = 1 << 20;
    let server = Redis::start().unwrap();
    let sent = || {
        let stats = server.cli(&["INFO", "stats"]).unwrap();
        let line = stats.lines().find_map(|line| line.strip_prefix("total_net_output_bytes:")).unwrap();
        line.trim().parse::<usize>().unwrap()
    };
    let builders = [
        at(&server.url()).namespace("one"),
        at(&server.url()).namespace("four").buckets(4).group_segments(2),
        at(&server.url()).namespace("plain").format(Format::Plain),
    ];
    for builder in builders {
        let store = builder.open().await.unwrap();
        let short = fill(&store, "short", 2_000, 10).await;
        let long = fill(&store, "long", 16, 4 << 20).await;
        let middling = fill(&store, "middling", 300, 50_000).await;
        assert_eq!(list_all(&store, "short", MAX_PAGE_BYTES).await.0, short);
        let before = sent();
        let query = ListQuery::new(KeyPrefix::new(["long"]).unwrap()).with_max_page_bytes(MAX_PAGE_BYTES);
        let page = store.list(&query).await.unwrap();
        assert_eq!(page.items.len(), 1);
        let cost = sent() - before;
        assert!(cost < (4 << 20) + 3 * MAX_PAGE_BYTES, "{cost} bytes for one entry");
        assert_eq!(list_all(&store, "long", MAX_PAGE_BYTES).await.0, long);
        let (found, longest) = list_all(&store, "middling", MAX_PAGE_BYTES).await;
        assert_eq!(found, middling);
        assert!(longest > MAX_PAGE_BYTES / 2 && longest < MAX_PAGE_BYTES + 50_000, "{longest}");
        assert_eq!(list_all(&store, "short", MAX_PAGE_BYTES).await.0, short);
        store.clear(&KeyPrefix::ALL).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn expired_entries_of_a_transaction_over_several_buckets_are_swept() {
    let server = Redis::start().unwrap();
    let store = at(&server.url()).buckets(4).sweep_interval(Duration::from_secs(3_600)).open().await.unwrap();
    let soon = Expiry::After(Duration::from_millis(50));
    let all = (0..20).fold(Transaction::new(), |all, name| all.set(key(name), "1", soon));
    assert!(store.commit(&all).await.unwrap().is_committed());
    let _ = store.set(&key("kept"), "v".into(), &SetOptions::default()).await.unwrap();
    SystemClock.sleep(Duration::from_millis(150)).await;
    assert_eq!(store.sweep().await.unwrap(), 20);
    assert_eq!(keys(&store).await, [key("kept")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_is_filled_up_to_its_limit_of_keys_or_bytes() {
    let server = Redis::start().unwrap();
    let builders = [at(&server.url()).namespace("one"), at(&server.url()).namespace("many").buckets(64)];
    for builder in builders {
        let store = builder.open().await.unwrap();
        let names = fill(&store, "p", 9_000, 100).await;
        let query = ListQuery::new(KeyPrefix::new(["p"]).unwrap());
        for query in [query.clone().with_limit(8_000), query.clone().with_limit(8_000).with_keys_only()] {
            let page = store.list(&query).await.unwrap();
            assert_eq!(page.items.len(), 8_000);
            let rest = store.list(&query.clone().resume(page.next.unwrap())).await.unwrap();
            assert_eq!((rest.items.len(), rest.next), (1_000, None));
        }
        let page = store.list(&query.clone().with_limit(8_000).with_max_page_bytes(250_000)).await.unwrap();
        assert_eq!(page.items.len(), 2_500);
        assert_eq!(list_all(&store, "p", 250_000).await.0, names);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clear_of_the_descendants_of_a_key_keeps_the_key_in_every_shape() {
    let server = Redis::start().unwrap();
    let builders = [
        at(&server.url()).namespace("ordered").index(Index::Ordered),
        at(&server.url()).namespace("buckets").buckets(4).group_segments(1),
        at(&server.url()).namespace("free").index(Index::None),
        at(&server.url()).namespace("plain").format(Format::Plain),
    ];
    for builder in builders {
        let store = builder.open().await.unwrap();
        let root = key("a");
        let kept = [root.clone(), key("ab"), key("b")];
        for key in &kept {
            let _ = store.set(key, "v".into(), &SetOptions::default()).await.unwrap();
        }
        for name in ["", "1", "2"] {
            let child = Key::new(["a", name]).unwrap();
            let _ = store.set(&child, "v".into(), &SetOptions::default()).await.unwrap();
        }
        let descendants = KeyPrefix::descendants(&root);
        assert_eq!(store.list(&ListQuery::new(descendants.clone())).await.unwrap().items.len(), 3);
        assert_eq!(store.clear(&descendants).await.unwrap(), 3);
        assert_eq!(keys(&store).await, kept);
    }
}
