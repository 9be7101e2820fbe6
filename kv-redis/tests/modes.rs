//! Servers whose mode does not fit the scheme are refused before anything is written.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use kv_core::{ErrorKind, KvStore};
use kv_redis::RedisStore;
use test_servers::redis::Redis;

mod support;
use support::{at, key, set};

/// A cluster of one node.
fn cluster_node() -> Redis {
    let server = Redis::builder().setting("cluster-enabled", "yes").start().unwrap();
    server.cli(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).unwrap();
    server
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_a_cluster_is_not_opened_as_one_server_and_stays_empty() {
    let server = cluster_node();
    let url = server.url().replace("redis:", "redis-cluster:");
    support::eventually(|| async { server.cli(&["CLUSTER", "INFO"]).unwrap().contains("cluster_state:ok") }).await;
    let error = RedisStore::open(&server.url()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert!(error.message().contains("`redis-cluster:`"), "{error}");
    assert_eq!(server.cli(&["DBSIZE"]).unwrap().trim(), "0");
    let store = RedisStore::open(&url).await.unwrap();
    let _ = set(&store, "k", "v").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_outside_a_cluster_is_not_opened_as_a_cluster() {
    let server = Redis::start().unwrap();
    let error = RedisStore::open(&server.url().replace("redis:", "redis-cluster:")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert!(error.message().contains("`redis:`"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redirection_to_another_server_is_invalid_for_a_store_of_one_server() {
    let moved = |words: &[String]| match words[0].as_str() {
        "get" if words[1] != "kv!layout" => b"-MOVED 3999 127.0.0.1:6381\r\n".to_vec(),
        "evalsha" | "set" => b"-MOVED 3999 127.0.0.1:6381\r\n".to_vec(),
        _ => Vec::new(),
    };
    let store = at(&support::fake::start(moved).await).open().await.unwrap();
    let errors = [store.get(&key("k")).await.unwrap_err(), set(&store, "k", "v").await.unwrap_err()];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        assert!(error.message().contains("`redis-cluster:`"), "{error}");
    }
}
