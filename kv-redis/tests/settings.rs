//! Servers whose settings become weaker than the handle has declared, while the handle is open.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::os::unix::fs::symlink;
use std::time::Duration;

use kv_core::{
    Clock, DeleteOptions, Error, ErrorKind, Expiry, IncrementOptions, KeyPrefix, KvStore, ListQuery, NewExpiry,
    SetItem, Survives, SystemClock, Transaction,
};
use kv_redis::{Format, Index, RedisBuilder, RedisStore};
use test_servers::redis::Redis;

mod support;
use support::{at, eventually, key, keys, set, value};

fn durable() -> Redis {
    Redis::builder().append_only().start().unwrap()
}

fn quick(url: &str) -> RedisBuilder {
    at(url).heartbeat(Duration::from_millis(50)).sweep_interval(Duration::from_secs(3_600))
}

/// Waits until a write fails, and returns its error.
async fn refusal(store: &RedisStore) -> Error {
    // A replica needs some seconds to connect to its master.
    for _ in 0..3_000 {
        if let Err(error) = set(store, "probe", "v").await {
            return error;
        }
        SystemClock.sleep(Duration::from_millis(10)).await;
    }
    panic!("no write failed");
}

async fn writes_work_again(store: &RedisStore) {
    eventually(|| async { set(store, "probe", "v").await.is_ok() }).await;
}

/// Returns the errors of every kind of write that must fail.
async fn all_writes(store: &RedisStore) -> Vec<(&'static str, Option<Error>)> {
    let transaction = Transaction::new().set(key("t"), "1", Expiry::Never);
    vec![
        ("set", set(store, "k", "w").await.err()),
        ("set_many", store.set_many(&[SetItem::new(key("k"), "w")]).await.remove(0).err()),
        ("touch", store.touch(&key("k"), NewExpiry::Never).await.err()),
        ("increment", store.increment(&key("n"), 1, &IncrementOptions::default()).await.err()),
        ("commit", store.commit(&transaction).await.err()),
        ("delete", store.delete(&key("other"), &DeleteOptions::default()).await.err()),
        ("delete_many", store.delete_many(&[key("other")]).await.remove(0).err()),
        ("clear", store.clear(&KeyPrefix::from(key("other"))).await.err()),
        ("flush", store.flush().await.err()),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_fail_while_appendonly_is_switched_off_and_reads_go_on() {
    let server = durable();
    let store = quick(&server.url()).open().await.unwrap();
    let declared = store.info().capabilities.durability;
    assert_eq!(declared.survives, Survives::Power);
    let _ = set(&store, "k", "v").await.unwrap();
    server.cli(&["CONFIG", "SET", "appendonly", "no"]).unwrap();
    let error = refusal(&store).await;
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert!(error.message().contains("`appendonly`") && error.message().contains("`yes`"), "{error}");
    for (name, error) in all_writes(&store).await {
        assert_eq!(error.map(|error| error.kind()), Some(ErrorKind::Invalid), "{name}");
    }
    assert_eq!(value(&store, "k").await.as_deref(), Some("v"));
    assert!(keys(&store).await.contains(&key("k")));
    assert_eq!(store.info().capabilities.durability, declared);
    // The writes wait for the end of the first rewrite, which takes a second for each key.
    server.cli(&["CONFIG", "SET", "rdb-key-save-delay", "1000000"]).unwrap();
    server.cli(&["CONFIG", "SET", "appendonly", "yes"]).unwrap();
    eventually(|| async { refusal(&store).await.message().contains("has not finished") }).await;
    writes_work_again(&store).await;
    // The new file is complete.
    let persistence = server.cli(&["INFO", "persistence"]).unwrap();
    assert!(persistence.contains("aof_rewrite_in_progress:0"), "{persistence}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_fail_while_appendfsync_is_weaker_than_declared() {
    let server = durable();
    let store = quick(&server.url()).open().await.unwrap();
    for weaker in ["everysec", "no"] {
        server.cli(&["CONFIG", "SET", "appendfsync", weaker]).unwrap();
        eventually(|| async { refusal(&store).await.message().contains(&format!("`{weaker}`")) }).await;
        let error = refusal(&store).await;
        assert!(error.kind() == ErrorKind::Invalid && error.message().contains("`appendfsync`"), "{error}");
    }
    // A handle that is opened now declares what the server does, so it may write.
    let weak = quick(&server.url()).open().await.unwrap();
    assert_eq!(weak.info().capabilities.durability.survives, Survives::Process);
    let _ = set(&weak, "k", "v").await.unwrap();
    server.cli(&["CONFIG", "SET", "appendfsync", "always"]).unwrap();
    writes_work_again(&store).await;
    // A stronger setting than declared is no reason to refuse writes.
    let _ = set(&weak, "k", "v").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_fail_while_a_replica_is_connected_to_a_server_that_had_no_replica() {
    let server = durable();
    let store = quick(&server.url()).open().await.unwrap();
    let replica = Redis::builder().replica_of(server.port()).start().unwrap();
    let error = refusal(&store).await;
    assert!(error.kind() == ErrorKind::Invalid && error.message().contains("replica"), "{error}");
    drop(replica);
    writes_work_again(&store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_that_store_a_value_fail_while_the_server_may_evict_entries_of_any_format() {
    let server = Redis::start().unwrap();
    let stores = [
        quick(&server.url()).namespace("a").open().await.unwrap(),
        quick(&server.url()).namespace("b").index(Index::None).open().await.unwrap(),
        quick(&server.url()).namespace("c").format(Format::Plain).open().await.unwrap(),
    ];
    for policy in ["volatile-lru", "allkeys-lru"] {
        server.cli(&["CONFIG", "SET", "maxmemory-policy", policy]).unwrap();
        for store in &stores {
            assert!(!store.info().capabilities.may_evict);
            let named = format!("`{policy}`");
            eventually(|| async { refusal(store).await.message().contains(&named) }).await;
            for (name, error) in all_writes(store).await {
                let is_refused = !["delete", "delete_many", "clear", "flush"].contains(&name);
                assert_eq!(error.is_some_and(|error| error.kind() == ErrorKind::Invalid), is_refused, "{name}");
            }
            assert_eq!(value(store, "k").await, None);
        }
    }
    server.cli(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]).unwrap();
    for store in &stores {
        writes_work_again(store).await;
    }
}

/// Waits until the server has refused a command of the store at least twice. The store has then received the first
/// refusal.
async fn refused_twice(server: &Redis, command: &str) {
    eventually(|| async {
        let log = server.cli(&["ACL", "LOG"]).unwrap();
        let lines: Vec<_> = log.lines().collect();
        let position = lines.iter().position(|line| *line == command);
        // Before the command, the log has the names and values of three fields: the count, the reason and the context.
        let count = position.and_then(|position| lines.get(position.checked_sub(6)?)?.parse::<u64>().ok());
        count.is_some_and(|count| count > 1)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_right_that_is_taken_away_proves_no_change() {
    let rights = support::rights("kv", "");
    let server = Redis::builder().append_only().acl_user("ada", "s3cret", &rights).start().unwrap();
    let store = quick(&server.url_of("ada", "s3cret")).open().await.unwrap();
    assert_eq!(store.info().capabilities.durability.survives, Survives::Power);
    server.cli(&["ACL", "SETUSER", "ada", "-config|get"]).unwrap();
    refused_twice(&server, "config|get").await;
    let _ = set(&store, "k", "v").await.unwrap();
    server.cli(&["ACL", "SETUSER", "ada", "-info"]).unwrap();
    refused_twice(&server, "info").await;
    let _ = set(&store, "k", "v").await.unwrap();
    assert_eq!(keys(&store).await, [key("k")]);
    // The policy can be read without the right to `info`.
    server.cli(&["ACL", "SETUSER", "ada", "+config|get"]).unwrap();
    server.cli(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).unwrap();
    assert!(refusal(&store).await.message().contains("`allkeys-lru`"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_list_after_a_failover_sees_the_policy_of_the_new_server() {
    let mut old = Redis::start().unwrap();
    let new = Redis::builder().max_memory("0", "allkeys-lru").start().unwrap();
    // A link that leads to the socket of the current master, as a proxy would.
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("master.sock");
    symlink(old.socket(), &link).unwrap();
    let hour = Duration::from_secs(3_600);
    let store =
        at(&format!("redis+unix://{}", link.display())).heartbeat(hour).sweep_interval(hour).open().await.unwrap();
    let _ = set(&store, "k", "v").await.unwrap();
    assert_eq!(keys(&store).await, [key("k")]);
    new.cli(&["REPLICAOF", "127.0.0.1", &old.port().to_string()]).unwrap();
    eventually(|| async { new.cli(&["INFO", "replication"]).unwrap().contains("master_link_status:up") }).await;
    new.cli(&["REPLICAOF", "NO", "ONE"]).unwrap();
    new.cli(&["ZREM", "kv!{0}", "k"]).unwrap();
    std::fs::remove_file(&link).unwrap();
    symlink(new.socket(), &link).unwrap();
    old.kill().unwrap();
    let listed = loop {
        match store.list(&ListQuery::default()).await {
            Err(error) if error.kind() == ErrorKind::Unavailable => {}
            listed => break listed,
        }
    };
    let error = listed.unwrap_err();
    assert!(error.message().contains("allkeys-lru"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn evictions_under_a_policy_that_was_soon_replaced_are_noticed() {
    let server = Redis::start().unwrap();
    let store = quick(&server.url()).heartbeat(Duration::from_secs(3_600)).open().await.unwrap();
    server.cli(&["SET", "bait", "x"]).unwrap();
    server.cli(&["CONFIG", "SET", "maxmemory-policy", "allkeys-random", "maxmemory", "1"]).unwrap();
    eventually(|| async { server.cli(&["EXISTS", "bait"]).unwrap().trim() == "0" }).await;
    server.cli(&["CONFIG", "SET", "maxmemory", "0", "maxmemory-policy", "noeviction"]).unwrap();
    for number in 0..20 {
        let _ = set(&store, number, "v").await.unwrap();
    }
    // As if the server had evicted the index, and a later set had created it again.
    server.cli(&["ZREMRANGEBYRANK", "kv!{0}", "5", "-1"]).unwrap();
    // The store reads the settings after a new connection, long before the next heartbeat.
    server.cli(&["CLIENT", "KILL", "TYPE", "normal"]).unwrap();
    eventually(|| async { store.list(&ListQuery::default()).await.is_ok_and(|page| page.items.len() == 20) }).await;
}
