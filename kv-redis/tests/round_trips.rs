//! The number of commands that an operation takes, counted by the server.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::time::Duration;

use kv_core::{Clock, Expiry, Key, KvStore, SetItem, SetOptions, SystemClock, When};
use kv_redis::{Index, RedisStore};
use test_servers::redis::Redis;

mod support;
use support::{at, commands, key, set};

/// Returns the number of times that the server runs each command during `work`.
async fn commands_during(server: &Redis, work: impl Future<Output = ()>) -> BTreeMap<String, u64> {
    let before = commands(server);
    work.await;
    let mut after = commands(server);
    after.retain(|name, calls| {
        *calls -= before.get(name).copied().unwrap_or(0);
        *calls > 0
    });
    after
}

/// Returns the counts if only one command has run.
fn only(name: &str, calls: u64) -> BTreeMap<String, u64> {
    BTreeMap::from([(name.to_owned(), calls)])
}

/// Opens a store whose sweeper and heartbeat have intervals longer than the test, so that neither runs a command.
async fn open(server: &Redis, index: Index) -> RedisStore {
    let hour = Duration::from_secs(3_600);
    let store = at(&server.url()).index(index).sweep_interval(hour).heartbeat(hour).open().await.unwrap();
    SystemClock.sleep(Duration::from_millis(300)).await;
    store
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_on_one_key_is_one_command_and_so_is_a_get_of_many_keys() {
    let server = Redis::start().unwrap();
    let store = open(&server, Index::Ordered).await;
    let keys: Vec<Key> = (0..200).map(|number| key(format!("k{number}"))).collect();
    let items: Vec<SetItem> = keys.iter().map(|key| SetItem::new(key.clone(), "v")).collect();
    assert!(store.set_many(&items).await.into_iter().all(|outcome| outcome.unwrap().is_stored()));

    let get = commands_during(&server, async { assert!(store.get(&keys[0]).await.unwrap().is_some()) }).await;
    assert_eq!(get, only("get", 1));
    let miss = commands_during(&server, async { assert!(store.get(&key("none")).await.unwrap().is_none()) }).await;
    assert_eq!(miss, only("get", 1));
    let overwrite =
        commands_during(&server, async { assert!(set(&store, "k0", "w").await.unwrap().is_stored()) }).await;
    assert_eq!(overwrite, only("set", 1));
    let ttl = SetOptions::default().with_expiry(Expiry::After(Duration::from_secs(60)));
    let expiring = commands_during(&server, async {
        assert!(store.set(&keys[1], "w".into(), &ttl).await.unwrap().is_stored());
    });
    assert_eq!(expiring.await, only("set", 1));
    let many = commands_during(&server, async {
        assert!(store.get_many(&keys).await.into_iter().all(|entry| entry.unwrap().is_some()));
    });
    assert_eq!(many.await, only("mget", 1));
    let condition = SetOptions::default().with_when(When::Present);
    let conditional = commands_during(&server, async {
        assert!(store.set(&keys[0], "x".into(), &condition).await.unwrap().is_stored());
    });
    // The server also counts the commands inside the script, so only the script is compared.
    assert_eq!(conditional.await.get("evalsha"), Some(&1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_index_a_new_key_is_one_command() {
    let server = Redis::start().unwrap();
    let store = open(&server, Index::None).await;
    let new = commands_during(&server, async { assert!(set(&store, "new", "v").await.unwrap().is_stored()) }).await;
    assert_eq!(new, only("set", 1));
}
