//! What an operation costs the server: commands, counted by the server itself.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::time::Duration;

use kv_core::{Clock, Expiry, Key, KvStore, SetItem, SetOptions, SystemClock, When};
use kv_redis::{Index, RedisStore};
use test_servers::redis::Redis;

mod support;
use support::{at, commands, key, set};

/// What was run meanwhile.
async fn during(server: &Redis, work: impl Future<Output = ()>) -> BTreeMap<String, u64> {
    let before = commands(server);
    work.await;
    let mut after = commands(server);
    after.retain(|name, calls| {
        *calls -= before.get(name).copied().unwrap_or(0);
        *calls > 0
    });
    after
}

fn only(name: &str, calls: u64) -> BTreeMap<String, u64> {
    BTreeMap::from([(name.to_owned(), calls)])
}

/// A store whose sweeper rests and is not counted.
async fn open(server: &Redis, index: Index) -> RedisStore {
    let hour = Duration::from_secs(3_600);
    let store = at(&server.url()).index(index).sweep_interval(hour).heartbeat(hour).open().await.unwrap();
    SystemClock.sleep(Duration::from_millis(300)).await;
    store
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn single_calls_are_one_command_and_batches_are_one_for_all_keys() {
    let server = Redis::start().unwrap();
    let store = open(&server, Index::Ordered).await;
    let keys: Vec<Key> = (0..200).map(|number| key(format!("k{number}"))).collect();
    let items: Vec<SetItem> = keys.iter().map(|key| SetItem::new(key.clone(), "v")).collect();
    assert!(store.set_many(&items).await.into_iter().all(|outcome| outcome.unwrap().is_stored()));

    let get = during(&server, async { assert!(store.get(&keys[0]).await.unwrap().is_some()) }).await;
    assert_eq!(get, only("get", 1));
    let miss = during(&server, async { assert!(store.get(&key("none")).await.unwrap().is_none()) }).await;
    assert_eq!(miss, only("get", 1));
    let overwrite = during(&server, async { assert!(set(&store, "k0", "w").await.unwrap().is_stored()) }).await;
    assert_eq!(overwrite, only("set", 1));
    let ttl = SetOptions::default().with_expiry(Expiry::After(Duration::from_secs(60)));
    let expiring = during(&server, async {
        assert!(store.set(&keys[1], "w".into(), &ttl).await.unwrap().is_stored());
    });
    assert_eq!(expiring.await, only("set", 1));
    let many = during(&server, async {
        assert!(store.get_many(&keys).await.into_iter().all(|entry| entry.unwrap().is_some()));
    });
    assert_eq!(many.await, only("mget", 1));
    let condition = SetOptions::default().with_when(When::Present);
    let conditional = during(&server, async {
        assert!(store.set(&keys[0], "x".into(), &condition).await.unwrap().is_stored());
    });
    // The script, and what it calls.
    assert_eq!(conditional.await.get("evalsha"), Some(&1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_index_a_fresh_key_is_one_command() {
    let server = Redis::start().unwrap();
    let store = open(&server, Index::None).await;
    let fresh = during(&server, async { assert!(set(&store, "fresh", "v").await.unwrap().is_stored()) }).await;
    assert_eq!(fresh, only("set", 1));
}
