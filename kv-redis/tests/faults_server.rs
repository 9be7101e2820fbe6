//! Servers that die, are suspended, run out of memory, or become replicas.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use kv_core::{
    Capability, Clock, DeleteOptions, Durability, ErrorKind, KvStore, List, SetOptions, Survives, SystemClock,
};
use kv_redis::{Index, RedisStore};
use test_servers::redis::Redis;
use tokio::time::Instant;

mod support;
use support::{at, count_until, eventually, key, set, value};

const TIMEOUT: Duration = Duration::from_millis(800);

async fn open(server: &Redis) -> RedisStore {
    at(&server.url()).operation_timeout(TIMEOUT).connect_timeout(TIMEOUT).open().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_server_has_each_acknowledged_increment_exactly_once() {
    let mut server = Redis::builder().append_only().setting("appendfsync", "always").start().unwrap();
    let store = open(&server).await;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let tasks: Vec<_> =
        (0..8).map(|_| tokio::spawn(count_until(store.clone(), key("count"), stopped.clone()))).collect();
    for _ in 0..2 {
        SystemClock.sleep(Duration::from_millis(300)).await;
        server.kill().unwrap();
        SystemClock.sleep(Duration::from_millis(200)).await;
        server.restart().unwrap();
    }
    stop.send(true).unwrap();
    let (mut acknowledged, mut indeterminate, mut unavailable) = (0, 0, 0);
    for task in tasks {
        let tally = tokio::time::timeout(Duration::from_secs(20), task).await.unwrap().unwrap();
        assert!(tally.longest < TIMEOUT * 2, "{tally:?}");
        acknowledged += tally.acknowledged;
        indeterminate += tally.indeterminate;
        unavailable += tally.unavailable;
    }
    assert!(unavailable > 0, "no increment failed while the server was down");
    let count: i64 = value(&store, "count").await.unwrap().parse().unwrap();
    assert!((acknowledged..=acknowledged + indeterminate).contains(&count), "{acknowledged} {indeterminate} {count}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_to_a_suspended_server_is_indeterminate_and_its_version_shows_the_outcome() {
    let mut server = Redis::start().unwrap();
    let store = open(&server).await;
    let _ = set(&store, "k", "before").await.unwrap();
    server.pause().unwrap();
    let start = Instant::now();
    let write = set(&store, "k", "after").await.unwrap_err();
    let read = store.get(&key("k")).await.unwrap_err();
    assert!(start.elapsed() < TIMEOUT * 4, "{:?}", start.elapsed());
    assert!(write.maybe_applied(), "{write}");
    assert_eq!(read.kind(), ErrorKind::Unavailable, "{read}");
    server.resume().unwrap();
    let attempted = write.attempted_version();
    assert!(attempted.is_some());
    eventually(|| async { store.get(&key("k")).await.is_ok_and(|entry| entry.unwrap().version == attempted) }).await;
    let _ = set(&store, "k", "later").await.unwrap();
    assert_eq!(value(&store, "k").await.as_deref(), Some("later"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_to_a_server_that_is_down_fail_at_once() {
    let mut server = Redis::start().unwrap();
    let store = open(&server).await;
    server.kill().unwrap();
    eventually(|| async { set(&store, "k", "v").await.is_err_and(|error| error.kind() == ErrorKind::Unavailable) })
        .await;
    for _ in 0..20 {
        let start = Instant::now();
        assert_eq!(store.get(&key("k")).await.unwrap_err().kind(), ErrorKind::Unavailable);
        assert_eq!(set(&store, "k", "v").await.unwrap_err().kind(), ErrorKind::Unavailable);
        assert!(start.elapsed() < TIMEOUT, "{:?}", start.elapsed());
    }
    let opened = at(&server.url()).connect_timeout(TIMEOUT).open().await;
    assert_eq!(opened.unwrap_err().kind(), ErrorKind::Unavailable);
    server.restart().unwrap();
    let _ = set(&store, "k", "v").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_that_the_server_has_lost_are_sent_again() {
    let server = Redis::start().unwrap();
    let store = open(&server).await;
    for round in 0..5 {
        server.cli(&["SCRIPT", "FLUSH"]).unwrap();
        let _ = set(&store, round, "v").await.unwrap();
        let items: Vec<_> = (0..1_000).map(|at| kv_core::SetItem::new(key(format!("{round} {at}")), "v")).collect();
        server.cli(&["SCRIPT", "FLUSH"]).unwrap();
        assert!(store.set_many(&items).await.into_iter().all(|outcome| outcome.unwrap().is_stored()));
        server.cli(&["SCRIPT", "FLUSH"]).unwrap();
        assert!(store.delete(&key(round), &DeleteOptions::default()).await.unwrap().is_deleted());
        server.cli(&["SCRIPT", "FLUSH"]).unwrap();
        assert_eq!(store.increment(&key("count"), 1, &kv_core::IncrementOptions::default()).await.unwrap(), round + 1);
    }
    assert_eq!(support::keys(&store).await.len(), 5_001);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_server_refuses_writes_and_serves_reads_and_deletes() {
    let server = Redis::builder().max_memory("6mb", "noeviction").start().unwrap();
    let store = open(&server).await;
    assert!(!store.info().capabilities.may_evict);
    let mut written = 0;
    let error = loop {
        match store.set(&key(written), vec![b'x'; 50_000].into(), &SetOptions::default()).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::Capacity, "{error}");
    assert!(written > 10);
    // With this limit even the smallest write fails.
    server.cli(&["CONFIG", "SET", "maxmemory", "1mb"]).unwrap();
    let overwrite = store.set(&key(0), vec![b'y'; 50_000].into(), &SetOptions::default()).await.unwrap_err();
    assert_eq!(overwrite.kind(), ErrorKind::Capacity);
    let count = store.increment(&key("count"), 1, &kv_core::IncrementOptions::default()).await.unwrap_err();
    assert_eq!(count.kind(), ErrorKind::Capacity);
    let transaction = kv_core::Transaction::new().set(key("a"), "1", kv_core::Expiry::Never).set(
        key("b"),
        "2",
        kv_core::Expiry::Never,
    );
    assert_eq!(store.commit(&transaction).await.unwrap_err().kind(), ErrorKind::Capacity);
    assert_eq!(value(&store, "a").await, None);
    assert_eq!(support::keys(&store).await.len(), written);
    for number in 0..written {
        assert_eq!(store.get(&key(number)).await.unwrap().unwrap().value.len(), 50_000);
    }
    assert!(store.delete(&key(0), &DeleteOptions::default()).await.unwrap().is_deleted());
    // A handle that is opened now can also read and delete.
    let second = open(&server).await;
    assert_eq!(second.get(&key(1)).await.unwrap().unwrap().value.len(), 50_000);
    assert!(second.delete(&key(1), &DeleteOptions::default()).await.unwrap().is_deleted());
    assert_eq!(support::keys(&second).await.len(), written - 2);
    let new = at(&server.url()).namespace("new").operation_timeout(TIMEOUT).open().await.unwrap_err();
    assert_eq!(new.kind(), ErrorKind::Capacity, "{new}");
    server.cli(&["CONFIG", "SET", "maxmemory", "100mb"]).unwrap();
    let _ = set(&store, "again", "v").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_server_is_swept() {
    let server = Redis::start().unwrap();
    // The sweep interval of the first handle is longer than the test. The test removes the lease of this handle below,
    // so that the second handle sweeps.
    let first = at(&server.url()).sweep_interval(Duration::from_secs(3_600)).open().await.unwrap();
    let soon = SetOptions::default().with_expiry(kv_core::Expiry::After(Duration::from_millis(200)));
    let items: Vec<_> = (0..5_000).map(|at| kv_core::SetItem::new(key(at), "v").with_options(soon.clone())).collect();
    assert!(first.set_many(&items).await.into_iter().all(|outcome| outcome.unwrap().is_stored()));
    let _ = set(&first, "kept", "v").await.unwrap();
    drop(first);
    server.cli(&["DEL", "kv!sweeper"]).unwrap();
    server.cli(&["CONFIG", "SET", "maxmemory", "1mb"]).unwrap();
    let store = open(&server).await;
    assert_eq!(set(&store, "new", "v").await.unwrap_err().kind(), ErrorKind::Capacity);
    let size = || server.cli(&["ZCARD", "kv!{0}"]).unwrap().trim().parse::<u64>().unwrap();
    eventually(|| async { size() == 1 }).await;
    assert_eq!(value(&store, "kept").await.as_deref(), Some("v"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_on_a_server_that_evicts_any_key_reports_may_evict_and_has_no_index() {
    let server = Redis::builder().max_memory("6mb", "allkeys-lru").start().unwrap();
    let store = open(&server).await;
    let capabilities = store.info().capabilities;
    assert!(capabilities.may_evict);
    assert_eq!(capabilities.list, List::Emulated);
    assert!(!capabilities.has(Capability::Locks));
    for number in 0..400 {
        let _ = store.set(&key(number), vec![b'x'; 50_000].into(), &SetOptions::default()).await.unwrap();
    }
    let listed = support::keys(&store).await;
    assert!(!listed.is_empty() && listed.len() < 400, "{}", listed.len());
    let ordered = at(&server.url()).namespace("ordered").index(Index::Ordered).open().await;
    assert_eq!(ordered.unwrap_err().kind(), ErrorKind::Invalid);

    let volatile = Redis::builder().max_memory("6mb", "volatile-lru").start().unwrap();
    let capabilities = open(&volatile).await.info().capabilities;
    assert!(capabilities.may_evict);
    assert_eq!(capabilities.list, List::Native);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_becomes_a_replica_refuses_writes_until_it_is_a_master_again() {
    let (server, other) = (Redis::start().unwrap(), Redis::start().unwrap());
    let store = open(&server).await;
    let _ = set(&store, "k", "v").await.unwrap();
    server.cli(&["REPLICAOF", "127.0.0.1", &other.port().to_string()]).unwrap();
    let error = set(&store, "k", "w").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    server.cli(&["REPLICAOF", "NO", "ONE"]).unwrap();
    eventually(|| async { set(&store, "k", "x").await.is_ok() }).await;
    assert_eq!(value(&store, "k").await.as_deref(), Some("x"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_durability_is_read_from_the_server() {
    let durability = async |server: &Redis| open(server).await.info().capabilities.durability;
    let server = Redis::builder().append_only().setting("appendfsync", "always").start().unwrap();
    assert_eq!(durability(&server).await, Durability::surviving(Survives::Power));
    server.cli(&["CONFIG", "SET", "appendfsync", "everysec"]).unwrap();
    let replica = Redis::builder().replica_of(server.port()).start().unwrap();
    assert_eq!(durability(&server).await, Durability::surviving(Survives::Process), "a failover may lose writes");
    drop(replica);
    eventually(|| async { server.cli(&["INFO", "replication"]).unwrap().contains("connected_slaves:0") }).await;
    let found = durability(&server).await;
    assert_eq!((found.survives, found.interval.is_zero()), (Survives::Power, false));
    server.cli(&["CONFIG", "SET", "appendonly", "no"]).unwrap();
    assert_eq!(durability(&server).await, Durability::surviving(Survives::Process));
}

/// The runtime of the store is blocked during the restart, so the first read is sent on the dead connection.
#[tokio::test(flavor = "current_thread")]
async fn the_first_read_after_a_restart_succeeds() {
    let mut server = Redis::builder().append_only().start().unwrap();
    let store = at(&server.url()).open().await.unwrap();
    let _ = set(&store, "k", "v").await.unwrap();
    for _ in 0..5 {
        server.kill().unwrap();
        server.restart().unwrap();
        let entry = store.get(&key("k")).await.unwrap();
        assert_eq!(entry.unwrap().value, "v");
        assert!(store.get_many(&[key("k"), key("l")]).await.iter().all(Result::is_ok));
    }
}
