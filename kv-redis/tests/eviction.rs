//! Servers whose eviction policy changes after a namespace was created.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use kv_core::{ErrorKind, KeyPrefix, KvStore, ListQuery};
use kv_redis::{Index, RedisBuilder, RedisStore};
use test_servers::redis::Redis;

mod support;
use support::{at, key, keys, set, value};

const COUNT: usize = 42;

fn quick(server: &Redis) -> RedisBuilder {
    at(&server.url()).heartbeat(Duration::from_millis(50)).sweep_interval(Duration::from_secs(3_600))
}

/// Creates a namespace with an index, allows the server to evict any key, and removes most members of the index, as if
/// the server had evicted the index and a later set had created it again.
async fn with_lost_index(server: &Redis) -> RedisStore {
    let store = quick(server).open().await.unwrap();
    for number in 0..COUNT {
        let _ = set(&store, number, "v").await.unwrap();
    }
    assert!(!store.info().capabilities.may_evict);
    server.cli(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).unwrap();
    server.cli(&["ZREMRANGEBYRANK", "kv!{0}", "14", "-1"]).unwrap();
    store
}

/// True if a list fails because of the eviction policy.
async fn list_fails(store: &RedisStore) -> bool {
    match store.list(&ListQuery::default()).await {
        Ok(_) => false,
        Err(error) => {
            assert!(error.message().contains("allkeys-lru"), "{error}");
            true
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_fail_while_the_policy_may_evict_indexes_and_are_complete_afterwards() {
    let server = Redis::start().unwrap();
    let store = with_lost_index(&server).await;
    support::eventually(|| list_fails(&store)).await;
    let error = store.list(&ListQuery::default()).await.unwrap_err();
    assert!(error.message().contains("`noeviction`"), "{error}");
    for number in 0..COUNT {
        assert_eq!(value(&store, number).await.as_deref(), Some("v"));
    }
    server.cli(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]).unwrap();
    support::eventually(|| async { store.list(&ListQuery::default()).await.is_ok() }).await;
    assert_eq!(keys(&store).await.len(), COUNT);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clear_on_a_server_that_may_evict_indexes_removes_every_entry() {
    let server = Redis::start().unwrap();
    let store = with_lost_index(&server).await;
    support::eventually(|| list_fails(&store)).await;
    assert_eq!(store.clear(&KeyPrefix::ALL).await.unwrap(), COUNT as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_whose_indexes_may_be_evicted_is_opened_for_reading_and_copying() {
    let server = Redis::start().unwrap();
    drop(with_lost_index(&server).await);
    for index in [Index::Auto, Index::Ordered] {
        let store = quick(&server).index(index).open().await.unwrap();
        assert_eq!(value(&store, 41).await.as_deref(), Some("v"));
        assert!(list_fails(&store).await && store.info().capabilities.may_evict);
    }
    let copying = quick(&server).index(Index::None).open().await.unwrap();
    assert_eq!(keys(&copying).await.len(), COUNT);
    assert_eq!(copying.list(&ListQuery::default()).await.unwrap().items.len(), COUNT);
    let error = set(&copying, "new", "v").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert!(error.message().contains("`noeviction`"), "{error}");
    assert!(copying.delete_many(&[key(0)]).await.remove(0).is_err());
    assert!(copying.clear(&KeyPrefix::ALL).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_without_an_index_is_opened_after_the_policy_has_changed() {
    let server = Redis::builder().setting("maxmemory-policy", "allkeys-lru").start().unwrap();
    let _ = set(&quick(&server).open().await.unwrap(), "k", "v").await.unwrap();
    server.cli(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]).unwrap();
    assert_eq!(keys(&quick(&server).open().await.unwrap()).await, [key("k")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_without_the_right_to_info_opens_a_namespace_of_another_user() {
    let rights = support::rights("kv", "-info -config");
    let server = Redis::builder().acl_user("ada", "s3cret", &rights).start().unwrap();
    let _ = set(&quick(&server).open().await.unwrap(), "k", "v").await.unwrap();
    let store = at(&server.url_of("ada", "s3cret")).open().await.unwrap();
    assert_eq!(keys(&store).await, [key("k")]);
    let _ = set(&store, "l", "v").await.unwrap();
    assert_eq!(keys(&store).await.len(), 2);
}
