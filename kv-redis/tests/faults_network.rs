//! Connections that break, hang, or are cut at any byte.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use kv_core::{Clock, ErrorKind, Key, KeyPrefix, KvStore, SetOptions, SystemClock, WatchEvent, WatchQuery, When};
use kv_redis::RedisStore;
use test_servers::proxy::{Direction, Proxy};
use test_servers::redis::Redis;
use tokio::time::Instant;

mod support;
use support::{at, eventually, key, next_event, set, settings_were_read, value};

const TIMEOUT: Duration = Duration::from_millis(600);

/// Opens a store behind a proxy. The intervals of the heartbeat and the sweeper are longer than a test, so after
/// the first run of the sweeper neither sends a command while the test cuts the connection.
async fn behind(proxy: &Proxy) -> RedisStore {
    let store = at(&format!("redis://{}", proxy.address()))
        .operation_timeout(TIMEOUT)
        .connect_timeout(TIMEOUT)
        .heartbeat(Duration::from_secs(3_600))
        .sweep_interval(Duration::from_secs(3_600))
        .open()
        .await
        .unwrap();
    // The sweeper also runs once when the store opens. Wait for this run.
    SystemClock.sleep(Duration::from_millis(200)).await;
    store
}

/// Returns the number of times that the server has run a command.
fn runs(server: &Redis, command: &str) -> u64 {
    let stats = server.cli(&["INFO", "commandstats"]).unwrap();
    let line = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
    line.and_then(|line| line.split(',').next()).map_or(0, |calls| calls.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_in_a_black_hole_time_out_and_the_handle_works_afterwards() {
    let server = Redis::start().unwrap();
    let proxy = Proxy::start(server.address()).unwrap();
    let store = at(&format!("redis://{}", proxy.address()))
        .operation_timeout(TIMEOUT)
        .connect_timeout(TIMEOUT)
        .heartbeat(Duration::from_millis(100))
        .open()
        .await
        .unwrap();
    let _ = set(&store, "k", "v").await.unwrap();
    proxy.black_hole();
    for _ in 0..3 {
        let start = Instant::now();
        let read = store.get(&key("k")).await.unwrap_err();
        assert_eq!(read.kind(), ErrorKind::Unavailable);
        let write = set(&store, "k", "w").await.unwrap_err();
        assert!(matches!(write.kind(), ErrorKind::Unavailable | ErrorKind::Indeterminate { .. }), "{write}");
        assert!(start.elapsed() < TIMEOUT * 3, "{:?}", start.elapsed());
    }
    proxy.pass();
    let start = Instant::now();
    eventually(|| async { set(&store, "k", "x").await.is_ok() }).await;
    assert!(start.elapsed() < TIMEOUT * 4, "{:?}", start.elapsed());
    assert_eq!(value(&store, "k").await.as_deref(), Some("x"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_heartbeat_closes_an_idle_connection_in_a_black_hole() {
    let server = Redis::start().unwrap();
    let proxy = Proxy::start(server.address()).unwrap();
    let store = at(&format!("redis://{}", proxy.address()))
        .operation_timeout(TIMEOUT)
        .heartbeat(Duration::from_millis(100))
        .open()
        .await
        .unwrap();
    proxy.black_hole();
    SystemClock.sleep(TIMEOUT * 3).await;
    proxy.pass();
    let start = Instant::now();
    eventually(|| async { set(&store, "k", "v").await.is_ok() }).await;
    assert!(start.elapsed() < TIMEOUT * 3, "{:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_set_whose_reply_is_cut_at_any_byte_is_indeterminate_and_applied_once() {
    let server = Redis::start().unwrap();
    let proxy = Proxy::start(server.address()).unwrap();
    let store = behind(&proxy).await;
    let _ = set(&store, "k", "v").await.unwrap();
    // The reply to an unconditional set: `+OK\r\n`.
    for bytes in 0..5 {
        let before = runs(&server, "set");
        let received = proxy.bytes(Direction::ToClient);
        proxy.cut_after(Direction::ToClient, bytes);
        let error = set(&store, "k", &format!("value {bytes}")).await.unwrap_err();
        assert!(error.maybe_applied(), "{error}");
        let entry = store.get(&key("k")).await.unwrap().unwrap();
        assert_eq!(entry.version, error.attempted_version());
        assert_eq!(entry.value, format!("value {bytes}"));
        assert_eq!(runs(&server, "set"), before + 1);
        settings_were_read(&proxy, received).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conditional_set_whose_reply_is_cut_at_any_byte_is_indeterminate_and_applied_once() {
    let server = Redis::start().unwrap();
    let proxy = Proxy::start(server.address()).unwrap();
    let store = behind(&proxy).await;
    let mut version = set(&store, "k", "v").await.unwrap().version();
    // This set loads the script into the server.
    let options = SetOptions::default().with_when(When::Version(version.unwrap()));
    version = store.set(&key("k"), "w".into(), &options).await.unwrap().version();
    // The reply to a conditional set: `*2\r\n:1\r\n_\r\n`.
    for bytes in 0..11 {
        let before = runs(&server, "evalsha");
        let received = proxy.bytes(Direction::ToClient);
        proxy.cut_after(Direction::ToClient, bytes);
        let options = SetOptions::default().with_when(When::Version(version.unwrap()));
        let error = store.set(&key("k"), format!("value {bytes}").into(), &options).await.unwrap_err();
        assert!(error.maybe_applied(), "{error}");
        version = error.attempted_version();
        let entry = store.get(&key("k")).await.unwrap().unwrap();
        assert_eq!((entry.version, entry.value.as_ref()), (version, format!("value {bytes}").as_bytes()));
        assert_eq!(runs(&server, "evalsha"), before + 1);
        settings_were_read(&proxy, received).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_get_whose_reply_is_cut_at_any_byte_is_sent_again() {
    let server = Redis::start().unwrap();
    let proxy = Proxy::start(server.address()).unwrap();
    let store = behind(&proxy).await;
    let _ = set(&store, "k", "canary").await.unwrap();
    // The reply to a get: `$40\r\n`, the header, the value, `\r\n`.
    for bytes in 0..47 {
        store.ping().await.unwrap();
        let received = proxy.bytes(Direction::ToClient);
        proxy.cut_after(Direction::ToClient, bytes);
        assert_eq!(value(&store, "k").await.as_deref(), Some("canary"), "after {bytes} bytes");
        settings_were_read(&proxy, received).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_set_whose_command_is_cut_is_indeterminate_and_not_applied() {
    let server = Redis::start().unwrap();
    let proxy = Proxy::start(server.address()).unwrap();
    let store = behind(&proxy).await;
    let _ = set(&store, "k", "v").await.unwrap();
    let sent = proxy.bytes(Direction::ToServer);
    let _ = set(&store, "k", "value").await.unwrap();
    let length = proxy.bytes(Direction::ToServer) - sent;
    for bytes in 0..length {
        store.ping().await.unwrap();
        let before = store.get(&key("k")).await.unwrap().unwrap().version;
        let received = proxy.bytes(Direction::ToClient);
        proxy.cut_after(Direction::ToServer, bytes);
        let error = set(&store, "k", "value").await.unwrap_err();
        assert!(error.maybe_applied(), "{error}");
        let after = store.get(&key("k")).await.unwrap().unwrap().version;
        assert_eq!(after, before, "the server ran an incomplete command of {bytes} of {length} bytes");
        assert_ne!(after, error.attempted_version());
        settings_were_read(&proxy, received).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_over_a_refused_connection_is_unavailable_and_not_applied() {
    let server = Redis::start().unwrap();
    let proxy = Proxy::start(server.address()).unwrap();
    let store = behind(&proxy).await;
    let _ = set(&store, "k", "v").await.unwrap();
    proxy.refuse();
    proxy.close_all();
    eventually(|| async { store.get(&key("k")).await.is_err() }).await;
    let before = runs(&server, "set");
    let error = set(&store, "k", "w").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert_eq!(runs(&server, "set"), before);
    proxy.pass();
    assert_eq!(value(&store, "k").await.as_deref(), Some("v"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_whose_connection_is_cut_gets_a_gap_and_then_events_again() {
    let server = Redis::start().unwrap();
    let proxy = Proxy::start(server.address()).unwrap();
    let store = at(&format!("redis://{}", proxy.address())).heartbeat(Duration::from_millis(100)).open().await.unwrap();
    let direct = at(&server.url()).open().await.unwrap();
    let mut stream = store.watch(&WatchQuery::prefix(KeyPrefix::ALL)).await.unwrap();
    let _ = set(&direct, "a", "1").await.unwrap();
    assert!(matches!(next_event(&mut stream).await, WatchEvent::Set { key: set, .. } if set == key("a")));
    proxy.close_all();
    let _ = set(&direct, "b", "1").await.unwrap();
    loop {
        match next_event(&mut stream).await {
            WatchEvent::Gap { .. } => break,
            // The set may have arrived before the cut.
            WatchEvent::Set { .. } | WatchEvent::Suspended { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    let _ = set(&direct, "c", "1").await.unwrap();
    loop {
        match next_event(&mut stream).await {
            WatchEvent::Set { key: set, .. } if set == key("c") => break,
            WatchEvent::Set { .. } | WatchEvent::Suspended { .. } | WatchEvent::Gap { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_in_a_black_hole_gets_a_gap() {
    let server = Redis::start().unwrap();
    let proxy = Proxy::start(server.address()).unwrap();
    let store = at(&format!("redis://{}", proxy.address()))
        .operation_timeout(TIMEOUT)
        .connect_timeout(TIMEOUT)
        .heartbeat(Duration::from_millis(100))
        .open()
        .await
        .unwrap();
    let mut stream = store.watch(&WatchQuery::prefix(KeyPrefix::ALL)).await.unwrap();
    proxy.black_hole();
    let direct = at(&server.url()).open().await.unwrap();
    let _ = set(&direct, "lost", "1").await.unwrap();
    assert!(matches!(next_event(&mut stream).await, WatchEvent::Suspended { .. }));
    proxy.pass();
    assert!(matches!(next_event(&mut stream).await, WatchEvent::Gap { .. }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_gets_a_gap_after_flushall() {
    let server = Redis::start().unwrap();
    let store = at(&server.url()).open().await.unwrap();
    let _ = set(&store, "a", "1").await.unwrap();
    let mut stream = store.watch(&WatchQuery::prefix(Key::new(["a"]).unwrap())).await.unwrap();
    server.cli(&["FLUSHALL"]).unwrap();
    let reason = kv_core::GapReason::Flushed;
    assert_eq!(next_event(&mut stream).await, WatchEvent::Gap { reason });
    assert_eq!(value(&store, "a").await, None);
    let _ = set(&store, "a", "2").await.unwrap();
    assert!(matches!(next_event(&mut stream).await, WatchEvent::Set { .. }));
    assert_eq!(support::keys(&store).await, [key("a")]);
}
