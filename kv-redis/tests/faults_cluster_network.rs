//! A cluster whose connections break at any byte, and whose masters are suspended.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::time::Duration;

use futures_util::StreamExt;
use kv_core::{
    Clock, ErrorKind, IncrementOptions, Key, KeyPrefix, KvStore, MessageEvent, SetOptions, SystemClock, When,
};
use kv_redis::RedisStore;
use test_servers::cluster::RedisCluster;
use test_servers::proxy::{Direction, Proxy};
use tokio::time::Instant;

mod support;
use support::{at, eventually, key, set, settings_were_read, value};

const TIMEOUT: Duration = Duration::from_secs(2);

/// A cluster with a proxy in front of each master.
struct Proxied {
    cluster: RedisCluster,
    proxies: Vec<Proxy>,
}

impl Proxied {
    fn start() -> Self {
        let mut cluster = RedisCluster::start().unwrap();
        let proxies: Vec<Proxy> =
            cluster.nodes().iter().take(3).map(|node| Proxy::start(node.address()).unwrap()).collect();
        for (number, proxy) in proxies.iter().enumerate() {
            cluster.announce(number, proxy.port()).unwrap();
        }
        // The replicas are killed, because they would also connect through the proxies, and a cut would hit the bytes
        // of a replica instead of the bytes of the store.
        cluster.nodes().iter_mut().skip(3).for_each(|replica| replica.kill().unwrap());
        Self { cluster, proxies }
    }

    /// Opens a store with one bucket, so that all keys are on one master. The intervals of the heartbeat and the
    /// sweeper are longer than a test, so neither sends a command while the test cuts a connection.
    async fn open(&self) -> RedisStore {
        let hour = Duration::from_secs(3_600);
        let builder = at(&self.cluster.url()).buckets(1).heartbeat(hour).sweep_interval(hour);
        let store = builder.operation_timeout(TIMEOUT).connect_timeout(TIMEOUT).open().await.unwrap();
        // Wait for the first run of the sweeper.
        SystemClock.sleep(Duration::from_millis(500)).await;
        store
    }

    /// Returns the proxy in front of the master that has the keys: the proxy that passes on the most bytes during some
    /// writes.
    async fn proxy_of_keys(&self, store: &RedisStore) -> &Proxy {
        let before: Vec<u64> = self.proxies.iter().map(|proxy| proxy.bytes(Direction::ToServer)).collect();
        for _ in 0..20 {
            let _ = set(store, "probe", "v").await.unwrap();
        }
        let sent = |index: usize| self.proxies[index].bytes(Direction::ToServer) - before[index];
        &self.proxies[(0..3).max_by_key(|index| sent(*index)).unwrap()]
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_whose_reply_is_cut_at_any_byte_is_indeterminate_and_applied_once() {
    let cluster = Proxied::start();
    let store = cluster.open().await;
    let proxy = cluster.proxy_of_keys(&store).await;
    let once = IncrementOptions::default();
    assert_eq!(store.increment(&key("n"), 1, &once).await.unwrap(), 1);
    let present = SetOptions::default().with_when(When::Present);
    assert!(set(&store, "k", "v").await.unwrap().is_stored());
    assert!(store.set(&key("k"), "w".into(), &present).await.unwrap().is_stored());

    // `+OK\r\n`, the reply to an unconditional set.
    for bytes in 0..5 {
        let text = format!("plain {bytes}");
        let received = proxy.bytes(Direction::ToClient);
        proxy.cut_after(Direction::ToClient, bytes);
        let error = set(&store, "k", &text).await.unwrap_err();
        assert!(error.maybe_applied(), "{error}");
        let entry = store.get(&key("k")).await.unwrap().unwrap();
        assert_eq!((entry.version, entry.value.as_ref()), (error.attempted_version(), text.as_bytes()));
        settings_were_read(proxy, received).await;
    }
    // `*2\r\n:1\r\n_\r\n`, the reply to a conditional set.
    for bytes in 0..11 {
        let held = store.get(&key("k")).await.unwrap().unwrap().version.unwrap();
        let options = SetOptions::default().with_when(When::Version(held));
        let received = proxy.bytes(Direction::ToClient);
        proxy.cut_after(Direction::ToClient, bytes);
        let error = store.set(&key("k"), "new".into(), &options).await.unwrap_err();
        assert!(error.maybe_applied(), "{error}");
        let entry = store.get(&key("k")).await.unwrap().unwrap();
        assert_eq!(entry.version, error.attempted_version(), "after {bytes} bytes");
        settings_were_read(proxy, received).await;
    }
    // The value proves that no increment was applied twice.
    for bytes in 0..4 {
        let received = proxy.bytes(Direction::ToClient);
        proxy.cut_after(Direction::ToClient, bytes);
        let error = store.increment(&key("n"), 1, &once).await.unwrap_err();
        assert!(error.maybe_applied(), "{error}");
        assert_eq!(value(&store, "n").await, Some((bytes + 2).to_string()), "after {bytes} bytes");
        settings_were_read(proxy, received).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_get_whose_reply_is_cut_at_any_byte_is_sent_again() {
    let cluster = Proxied::start();
    let store = cluster.open().await;
    let proxy = cluster.proxy_of_keys(&store).await;
    let _ = set(&store, "k", "canary").await.unwrap();
    // The reply to a get: `$40\r\n`, the header, the value, `\r\n`.
    for bytes in 0..47 {
        let received = proxy.bytes(Direction::ToClient);
        proxy.cut_after(Direction::ToClient, bytes);
        assert_eq!(value(&store, "k").await.as_deref(), Some("canary"), "after {bytes} bytes");
        settings_were_read(proxy, received).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspended_master_blocks_no_call_beyond_the_timeout() {
    let mut cluster = Proxied::start();
    let store = cluster.open().await;
    let keys: Vec<Key> = (0..30).map(|number| key(format!("k{number}"))).collect();
    for key in &keys {
        assert!(store.set(key, "v".into(), &SetOptions::default()).await.unwrap().is_stored());
    }
    cluster.cluster.nodes().iter_mut().take(3).for_each(|node| node.pause().unwrap());
    let started = Instant::now();
    let (written, read) = tokio::join!(set(&store, "k0", "w"), store.get(&keys[1]));
    assert!(started.elapsed() < TIMEOUT * 3, "{:?}", started.elapsed());
    assert!(written.unwrap_err().maybe_applied());
    assert_eq!(read.unwrap_err().kind(), ErrorKind::Unavailable);
    cluster.cluster.nodes().iter_mut().take(3).for_each(|node| node.resume().unwrap());
    eventually(|| async { store.get(&keys[0]).await.is_ok_and(|entry| entry.is_some()) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_whose_connection_is_cut_gets_a_gap_and_then_messages_again() {
    let cluster = Proxied::start();
    let store = cluster.open().await;
    let mut messages = store.subscribe(&KeyPrefix::ALL).await.unwrap();
    store.publish(&key("c"), "before".into()).await.unwrap();
    let next = messages.next().await.unwrap().unwrap();
    assert!(matches!(&next, MessageEvent::Message(message) if message.payload == "before"), "{next:?}");
    cluster.proxies.iter().for_each(Proxy::close_all);
    loop {
        let next = tokio::time::timeout(Duration::from_secs(20), messages.next()).await.unwrap().unwrap().unwrap();
        match next {
            MessageEvent::Gap { .. } => break,
            MessageEvent::Suspended { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    let publish = || async { store.publish(&key("c"), "after".into()).await.is_ok() };
    eventually(publish).await;
    loop {
        let next = tokio::time::timeout(Duration::from_secs(20), messages.next()).await.unwrap().unwrap().unwrap();
        match next {
            MessageEvent::Message(message) if message.payload == "after" => break,
            // Another connection was lost during the first reconnect, so this message was lost as well. Publish again.
            MessageEvent::Gap { .. } => eventually(publish).await,
            MessageEvent::Suspended { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}
