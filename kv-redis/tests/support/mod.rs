//! Helpers for the tests.
#![allow(dead_code, unused_imports, reason = "each test program uses only some of the helpers")]
#![allow(clippy::needless_pass_by_value, reason = "shorter to call")]

pub(crate) mod fake;
mod raw;

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;

use futures_util::StreamExt;
use kv_core::{
    Clock, ErrorKind, IncrementOptions, Key, KvStore, ListQuery, Result, SetOptions, SetOutcome, SystemClock,
    WatchEvent, WatchStream,
};
use kv_redis::{RedisBuilder, RedisStore};
use test_servers::cluster::RedisCluster;
use test_servers::proxy::{Direction, Proxy};
use test_servers::redis::Redis;

pub(crate) use self::raw::entry_of;

/// Returns the server that all cases of a test program share. The first call starts the server.
pub(crate) fn server() -> &'static Redis {
    static SERVER: OnceLock<Redis> = OnceLock::new();
    SERVER.get_or_init(|| Redis::start().unwrap())
}

/// Starts a server for the suite, and returns it with its URL.
pub(crate) fn start() -> (Redis, String) {
    let server = Redis::start().unwrap();
    let url = server.url();
    (server, url)
}

/// Starts a cluster for the suite, and returns it with its URL.
pub(crate) fn start_cluster() -> (RedisCluster, String) {
    let cluster = RedisCluster::start().unwrap();
    let url = cluster.url();
    (cluster, url)
}

/// The rights that a user needs in addition on a cluster, as in the README.
pub(crate) const CLUSTER_RIGHTS: &str = "+cluster|slots +cluster|nodes +asking";

/// Returns the rights in the README, for the namespaces that match a pattern, followed by `more`.
pub(crate) fn rights(namespace: &str, more: &str) -> String {
    let readme = include_str!("../../README.md");
    let block = readme.split("```text\n").nth(1).unwrap().split("```").next().unwrap();
    assert!(
        readme.contains(&format!("and on a cluster `{CLUSTER_RIGHTS}`")),
        "the README lacks the rights on a cluster"
    );
    let rights =
        block.replace('\n', " ").replace("~kv", &format!("~{namespace}")).replace("&kv", &format!("&{namespace}"));
    // A store subscribes to the pattern of its own namespace. An ACL rule for a channel pattern allows PSUBSCRIBE only
    // to exactly this pattern, so a rule for several namespaces must allow all channels.
    let rights = if namespace.contains('*') { rights.replace(&format!("&{namespace}!0!*"), "&*") } else { rights };
    format!("{rights} {more}")
}

/// Returns the number of times that the server has run each command, including commands inside scripts.
pub(crate) fn commands(server: &Redis) -> BTreeMap<String, u64> {
    let stats = server.cli(&["INFO", "commandstats"]).unwrap();
    let line = |line: &str| {
        let (name, rest) = line.trim().strip_prefix("cmdstat_")?.split_once(":calls=")?;
        Some((name.to_owned(), rest.split(',').next()?.parse().ok()?))
    };
    stats.lines().filter_map(line).filter(|(name, _)| !["info", "ping", "time"].contains(&name.as_str())).collect()
}

/// Returns the number of times that the server has run these commands in total.
pub(crate) fn calls(server: &Redis, names: &[&str]) -> u64 {
    commands(server).into_iter().filter(|(name, _)| names.contains(&name.as_str())).map(|(_, calls)| calls).sum()
}

/// Returns a builder for the store at a URL.
pub(crate) fn at(url: &str) -> RedisBuilder {
    RedisBuilder::from_url(&url.parse().unwrap()).unwrap()
}

/// Returns a key with one segment.
pub(crate) fn key(segment: impl ToString) -> Key {
    Key::new([segment.to_string()]).unwrap()
}

pub(crate) async fn set(store: &RedisStore, name: impl ToString, value: &str) -> Result<SetOutcome> {
    store.set(&key(name), value.to_owned().into(), &SetOptions::default()).await
}

pub(crate) async fn value(store: &RedisStore, name: impl ToString) -> Option<String> {
    let entry = store.get(&key(name)).await.unwrap()?;
    Some(String::from_utf8(entry.value.to_vec()).unwrap())
}

/// Lists every key of the store.
pub(crate) async fn keys(store: &RedisStore) -> Vec<Key> {
    let (mut query, mut keys) = (ListQuery::default().with_keys_only(), Vec::new());
    loop {
        let page = store.list(&query).await.unwrap();
        keys.extend(page.items.into_iter().map(|item| item.key));
        let Some(next) = page.next else { return keys };
        query = query.resume(next);
    }
}

/// Waits for the next event of a watch. Panics after 10 seconds.
pub(crate) async fn next_event(stream: &mut WatchStream) -> WatchEvent {
    tokio::time::timeout(Duration::from_secs(10), stream.next()).await.unwrap().unwrap().unwrap()
}

/// Waits until the condition holds. Panics after 20 seconds.
pub(crate) async fn eventually<F: Future<Output = bool>>(mut holds: impl FnMut() -> F) {
    for _ in 0..2_000 {
        if holds().await {
            return;
        }
        SystemClock.sleep(Duration::from_millis(10)).await;
    }
    panic!("the condition did not hold within 20 seconds");
}

/// Waits until the store has read the settings of the server through a new connection. The store reads the settings
/// after each reconnect, and a cut could hit this reply instead of the reply that the test wants to cut. `before` is
/// the number of bytes that the proxy had sent to the client before the reconnect.
pub(crate) async fn settings_were_read(proxy: &Proxy, before: u64) {
    // The reply to `INFO` is longer than all other replies in these tests together.
    const INFO_BYTES: u64 = 2_000;
    eventually(|| async { proxy.bytes(Direction::ToClient) >= before + INFO_BYTES }).await;
    loop {
        let bytes = proxy.bytes(Direction::ToClient);
        SystemClock.sleep(Duration::from_millis(10)).await;
        if proxy.bytes(Direction::ToClient) == bytes {
            return;
        }
    }
}

/// The outcomes of many increments, and the longest duration of an increment.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Tally {
    pub(crate) acknowledged: i64,
    pub(crate) indeterminate: i64,
    pub(crate) unavailable: i64,
    pub(crate) longest: Duration,
}

/// Increments a key until `stop` is true and one more increment is acknowledged.
pub(crate) async fn count_until(store: RedisStore, key: Key, mut stop: tokio::sync::watch::Receiver<bool>) -> Tally {
    let mut tally = Tally::default();
    loop {
        let is_last = *stop.borrow_and_update();
        let start = tokio::time::Instant::now();
        let counted = store.increment(&key, 1, &IncrementOptions::default()).await;
        tally.longest = tally.longest.max(start.elapsed());
        match counted {
            Ok(_) => {
                tally.acknowledged += 1;
                if is_last {
                    return tally;
                }
            }
            Err(error) => {
                match error.kind() {
                    ErrorKind::Indeterminate { .. } => tally.indeterminate += 1,
                    ErrorKind::Unavailable => tally.unavailable += 1,
                    other => panic!("{other:?}: {error}"),
                }
                SystemClock.sleep(Duration::from_millis(5)).await;
            }
        }
    }
}
