//! Foreign data in the same database, and namespaces whose names have special characters.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use futures_util::StreamExt;
use kv_core::{
    DeleteOptions, ErrorKind, Expires, Expiry, IncrementOptions, Key, KeyPrefix, KvStore, ListQuery, SetOptions,
    WatchEvent, WatchQuery, When,
};
use kv_redis::{Format, Index, RedisStore};
use test_servers::redis::Redis;

mod support;
use support::{at, key, keys, next_event, set, value};

/// Writes foreign data of many kinds, some of them under keys of the namespace.
fn write_foreign_data(server: &Redis) {
    for name in ["other", "kv", "kv#", "kv#{0}list", "kv#{0}a b", "kv#{7}x", "kv2#{0}k", "kv!", "#", "*", "[a]", "{0}"]
    {
        server.cli(&["RPUSH", name, "1", "2"]).unwrap();
    }
    server.cli(&["SET", "kv#{0}string", "not an entry"]).unwrap();
    server.cli(&["SET", "kv#{0}empty", ""]).unwrap();
    server.cli(&["HSET", "hash", "f", "v"]).unwrap();
    server.cli(&["ZADD", "kv!{0}", "0", "not$a$key", "0", "list", "0", "string"]).unwrap();
    // More members that are not valid UTF-8 than one command reads.
    let script = "for at = 1, 1200 do redis.call('ZADD', KEYS[1], 0, '\\255' .. at) end";
    server.cli(&["EVAL", script, "1", "kv!{0}"]).unwrap();
    server.cli(&["EVAL", "redis.call('ZADD', KEYS[1], 0, '\\1')", "1", "kv!{0}"]).unwrap();
}

async fn check_store(store: &RedisStore) {
    for name in ["a", "b", "*", "[a]", "?"] {
        let _ = set(store, name, name).await.unwrap();
    }
    let listed: Vec<_> = keys(store).await;
    assert!(["*", "?", "[a]", "a", "b"].into_iter().all(|name| listed.contains(&key(name))), "{listed:?}");
    let page = store.list(&ListQuery::default()).await.unwrap();
    assert_eq!(page.items.iter().filter(|item| item.entry.is_some()).count(), 5, "{page:?}");
    assert_eq!(store.list(&ListQuery::new(key("*"))).await.unwrap().items.len(), 1);
    assert_eq!(store.clear(&key("?").into()).await.unwrap(), 1);
    assert_eq!(value(store, "a").await.as_deref(), Some("a"));
    store.sweep().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_data_breaks_no_call_and_is_not_removed() {
    let server = Redis::start().unwrap();
    write_foreign_data(&server);
    let before = server.cli(&["DBSIZE"]).unwrap();
    let store = at(&server.url()).open().await.unwrap();
    check_store(&store).await;
    for name in ["list", "string"] {
        let error = store.get(&key(name)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        let options = SetOptions::default().with_when(When::Absent);
        let error = store.set(&key(name), "v".into(), &options).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        let error = store.increment(&key(name), 1, &IncrementOptions::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    }
    let free = at(&server.url()).namespace("kv free").index(Index::None).open().await.unwrap();
    check_store(&free).await;
    for store in [&store, &free] {
        store.clear(&KeyPrefix::ALL).await.unwrap();
    }
    // The remaining keys are foreign, except for the layout records of two namespaces and the lease of a sweeper.
    let after: i64 = server.cli(&["DBSIZE"]).unwrap().trim().parse().unwrap();
    let before: i64 = before.trim().parse().unwrap();
    assert!(after >= before - 3, "{before} {after}");
    for name in ["other", "kv", "kv#", "kv2#{0}k", "kv!", "#", "*", "[a]", "{0}", "hash"] {
        assert_eq!(server.cli(&["EXISTS", name]).unwrap().trim(), "1", "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn namespaces_with_any_names_are_separate() {
    let server = Redis::start().unwrap();
    for index in [Index::Ordered, Index::None] {
        let kind = if index == Index::None { "free " } else { "" };
        let names = ["a", "ab", "a#", "a!", "a*", "*", "[a]", "a{0}", "{0}", "a b", "ä", "a#{0}b"];
        let mut stores = Vec::new();
        for name in names {
            stores.push(at(&server.url()).namespace(format!("{kind}{name}")).index(index).open().await.unwrap());
        }
        for (store, name) in stores.iter().zip(names) {
            let _ = set(store, "k", name).await.unwrap();
            let _ = set(store, name, name).await.unwrap();
        }
        let mut watches = Vec::new();
        for store in &stores {
            watches.push(store.watch(&WatchQuery::prefix(KeyPrefix::ALL)).await.unwrap());
        }
        for (store, name) in stores.iter().zip(names) {
            assert_eq!(keys(store).await.len(), 2, "{name}");
            assert_eq!(value(store, "k").await.as_deref(), Some(name));
        }
        assert_eq!(stores[0].clear(&KeyPrefix::ALL).await.unwrap(), 2);
        for (store, name) in stores.iter().zip(names).skip(1) {
            assert_eq!(keys(store).await.len(), 2, "{name}");
        }
        // The clear gives events to the watch of the first store only. The first event of each other watch is the set
        // in the store of that watch.
        for (store, mut watch) in stores.iter().zip(watches).skip(1) {
            let _ = set(store, "own", "v").await.unwrap();
            assert!(matches!(next_event(&mut watch).await, WatchEvent::Set { key: set, .. } if set == key("own")));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_is_only_opened_with_its_own_layout() {
    let server = Redis::start().unwrap();
    let _ordered = at(&server.url()).open().await.unwrap();
    for builder in
        [at(&server.url()).index(Index::None), at(&server.url()).buckets(2), at(&server.url()).group_segments(1)]
    {
        let error = builder.open().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    }
    server.cli(&["SET", "later!layout", "2 something else"]).unwrap();
    let error = at(&server.url()).namespace("later").open().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    let opening: Vec<_> = (0..16)
        .map(|_| {
            let builder = at(&server.url()).namespace("new");
            tokio::spawn(async move { builder.open().await })
        })
        .collect();
    for opened in opening {
        opened.await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handle_whose_namespace_was_created_again_with_another_layout_is_invalid() {
    let server = Redis::start().unwrap();
    let quick = || at(&server.url()).sweep_interval(Duration::from_millis(5));
    let (one, other) = (quick().open().await.unwrap(), quick().open().await.unwrap());
    // One script flushes the database and writes the new record, so that no handle writes its own record in between.
    server
        .cli(&["EVAL", "redis.call('FLUSHALL') redis.call('SET', KEYS[1], ARGV[1])", "1", "kv!layout", "1 ordered 4 2"])
        .unwrap();
    for store in [&one, &other] {
        support::eventually(|| async {
            set(store, "k", "v").await.is_err_and(|error| error.kind() == ErrorKind::Invalid)
        })
        .await;
        assert_eq!(store.get(&key("k")).await.unwrap_err().kind(), ErrorKind::Invalid);
    }
    let _ = set(&quick().buckets(4).open().await.unwrap(), "k", "v").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_values_are_shared_with_other_programs() {
    let server = Redis::start().unwrap();
    let store = at(&server.url()).format(Format::Plain).namespace("").open().await.unwrap();
    server.cli(&["SET", "session:1", "theirs", "PX", "100000"]).unwrap();
    server.cli(&["RPUSH", "queue", "1"]).unwrap();
    server.cli(&["SET", "not a key", "x"]).unwrap();
    let entry = store.get(&key("session:1")).await.unwrap().unwrap();
    assert_eq!((entry.value.as_ref(), entry.version), (b"theirs".as_ref(), None));
    assert!(matches!(entry.expires, Expires::At(_)));
    let mut watch = store.watch(&WatchQuery::prefix(KeyPrefix::ALL)).await.unwrap();
    let soon = SetOptions::default().with_expiry(Expiry::After(Duration::from_secs(50)));
    let swap = soon.with_when(When::Value("theirs".into()));
    assert!(store.set(&key("session:1"), "ours".into(), &swap).await.unwrap().is_stored());
    assert_eq!(server.cli(&["GET", "session:1"]).unwrap().trim(), "ours");
    assert!(matches!(next_event(&mut watch).await, WatchEvent::Set { .. }));
    server.cli(&["INCR", "count"]).unwrap();
    assert_eq!(store.increment(&key("count"), 5, &IncrementOptions::default()).await.unwrap(), 6);
    assert_eq!(server.cli(&["GET", "count"]).unwrap().trim(), "6");
    let listed = store.list(&ListQuery::default().with_keys_only()).await.unwrap();
    assert_eq!(listed.items.into_iter().map(|item| item.key).collect::<Vec<_>>(), [key("count"), key("session:1")]);
    assert_eq!(store.get(&key("queue")).await.unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(store.contains(&key("queue")).await.unwrap_err().kind(), ErrorKind::Corrupt);
    assert!(store.contains(&key("count")).await.unwrap() && !store.contains(&key("nothing")).await.unwrap());
    assert!(store.delete(&Key::new(["count"]).unwrap(), &DeleteOptions::default()).await.unwrap().is_deleted());
    drop(watch.next());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watchers_of_a_shared_database_get_no_events_of_other_types() {
    let server = Redis::start().unwrap();
    let store = at(&server.url()).format(Format::Plain).namespace("").open().await.unwrap();
    let everything = WatchQuery::prefix(KeyPrefix::ALL);
    for query in [everything.clone(), everything.with_keys_only()] {
        let mut watch = store.watch(&query).await.unwrap();
        server.cli(&["RPUSH", "queue", "1"]).unwrap();
        server.cli(&["HSET", "hash", "f", "v"]).unwrap();
        server.cli(&["SET", "text", "v"]).unwrap();
        assert!(matches!(next_event(&mut watch).await, WatchEvent::Set { key: set, .. } if set == key("text")));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn get_and_get_many_return_the_same_results_for_foreign_values() {
    let server = Redis::start().unwrap();
    for (name, index) in [("kv", Index::Ordered), ("free", Index::None)] {
        let store = at(&server.url()).namespace(name).index(index).open().await.unwrap();
        let _ = set(&store, "a", "v").await.unwrap();
        server.cli(&["RPUSH", &format!("{name}#{{0}}list"), "1"]).unwrap();
        server.cli(&["SET", &format!("{name}#{{0}}junk"), "not an entry"]).unwrap();
        let names = ["list", "a", "nothing", "junk", "list", "nothing"].map(key);
        let found = store.get_many(&names).await;
        for (name, found) in names.iter().zip(found) {
            let alone = store.get(name).await;
            assert_eq!(found.as_ref().ok(), alone.as_ref().ok(), "{name}");
            assert_eq!(found.err().map(|error| error.kind()), alone.err().map(|error| error.kind()), "{name}");
        }
        assert_eq!(store.get(&key("list")).await.unwrap_err().kind(), ErrorKind::Corrupt);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_that_replaced_a_foreign_value_is_listed_after_a_sweep() {
    let server = Redis::start().unwrap();
    let slow = at(&server.url()).sweep_interval(Duration::from_secs(3_600)).open().await.unwrap();
    for name in ["x", "junk"] {
        server.cli(&["SET", &format!("kv#{{0}}{name}"), "not an entry"]).unwrap();
    }
    let _ = set(&slow, "x", "v").await.unwrap();
    assert_eq!(value(&slow, "x").await.as_deref(), Some("v"));
    slow.sweep().await.unwrap();
    assert_eq!(keys(&slow).await, [key("x")]);
    assert_eq!(slow.clear(&KeyPrefix::ALL).await.unwrap(), 1);
    // The background sweeper adds the key to the index, too.
    let quick = at(&server.url()).namespace("quick").sweep_interval(Duration::from_millis(5)).open().await.unwrap();
    server.cli(&["SET", "quick#{0}x", "not an entry"]).unwrap();
    let _ = set(&quick, "x", "v").await.unwrap();
    support::eventually(|| async { keys(&quick).await == [key("x")] }).await;
}
