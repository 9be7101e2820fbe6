//! Damaged entries and values of other types in lists.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use kv_core::{ErrorKind, Key, KvStore, ListPage, ListQuery};
use kv_redis::{Format, Index, RedisStore};
use test_servers::redis::Redis;

mod support;
use support::{at, key, set};

async fn list(store: &RedisStore, query: &ListQuery) -> (Vec<Key>, Vec<Key>) {
    let ListPage { items, damaged, next } = store.list(query).await.unwrap();
    assert_eq!(next, None);
    assert!(damaged.iter().all(|error| error.kind() == ErrorKind::Corrupt), "{damaged:?}");
    let damaged = damaged.iter().map(|error| error.key().unwrap().clone()).collect();
    (items.into_iter().map(|item| item.key).collect(), damaged)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_reports_each_damaged_entry_and_continues() {
    let server = Redis::start().unwrap();
    let builders = [at(&server.url()).namespace("one"), at(&server.url()).namespace("free").index(Index::None)];
    for (builder, name) in builders.into_iter().zip(["one", "free"]) {
        let store = builder.open().await.unwrap();
        for entry in ["a", "b", "c", "d", "e"] {
            let _ = set(&store, entry, "value").await.unwrap();
        }
        let physical = |entry: &str| format!("{name}#{{0}}{entry}");
        server.cli(&["SETRANGE", &physical("b"), "34", "X"]).unwrap();
        server.cli(&["SET", &physical("c"), "short"]).unwrap();
        server.cli(&["DEL", &physical("d")]).unwrap();
        server.cli(&["RPUSH", &physical("d"), "1"]).unwrap();
        // These keys cannot be keys of the namespace, so they are foreign.
        server.cli(&["SET", &physical("not a key"), "x"]).unwrap();
        server.cli(&["SET", &format!("{name}#x"), "x"]).unwrap();
        let forward = list(&store, &ListQuery::default()).await;
        assert_eq!(forward, (vec![key("a"), key("e")], vec![key("b"), key("c"), key("d")]), "{name}");
        let backward = list(&store, &ListQuery::default().with_reverse()).await;
        assert_eq!(backward, (vec![key("e"), key("a")], vec![key("d"), key("c"), key("b")]), "{name}");
        let page = store.list(&ListQuery::default().with_limit(2)).await.unwrap();
        assert_eq!((page.items.len(), page.damaged.len(), page.next), (1, 1, Some(key("b"))));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_in_plain_format_reports_values_of_other_types_in_its_namespace() {
    let server = Redis::start().unwrap();
    let store = at(&server.url()).namespace("n").format(Format::Plain).open().await.unwrap();
    let _ = set(&store, "a", "value").await.unwrap();
    server.cli(&["SET", "n#b", "any bytes"]).unwrap();
    server.cli(&["RPUSH", "n#c", "1"]).unwrap();
    server.cli(&["RPUSH", "other", "1"]).unwrap();
    assert_eq!(list(&store, &ListQuery::default()).await, (vec![key("a"), key("b")], vec![key("c")]));
}
