//! A cluster whose masters die and whose slots move under load.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use kv_core::{
    Clock, Expiry, IncrementOptions, Key, KeyPrefix, KvStore, ListQuery, SetItem, SetOptions, SystemClock, Transaction,
    Transactions, WatchEvent, WatchQuery, When,
};
use kv_redis::RedisStore;
use test_servers::cluster::RedisCluster;
use tokio::sync::watch;

mod support;
use support::{at, count_until, eventually, key, next_event};

async fn open(cluster: &RedisCluster) -> RedisStore {
    at(&cluster.url())
        .connect_timeout(Duration::from_secs(2))
        .heartbeat(Duration::from_millis(200))
        .open()
        .await
        .unwrap()
}

async fn fill(store: &RedisStore, keys: &[Key]) {
    for keys in keys.chunks(5_000) {
        let items: Vec<_> = keys.iter().map(|key| SetItem::new(key.clone(), "v")).collect();
        assert!(store.set_many(&items).await.into_iter().all(|outcome| outcome.unwrap().is_stored()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_of_300_and_of_100_000_keys_are_complete_and_in_order() {
    let cluster = RedisCluster::start().unwrap();
    let store = open(&cluster).await;
    for count in [300, 100_000] {
        let name = count.to_string();
        let mut written: Vec<Key> = (0..count).map(|at: u32| Key::new([&name, &at.to_string()]).unwrap()).collect();
        fill(&store, &written).await;
        written.sort();
        let prefix = KeyPrefix::new([&name]).unwrap();
        let (mut query, mut listed) = (ListQuery::new(prefix.clone()), Vec::new());
        loop {
            let page = store.list(&query).await.unwrap();
            listed.extend(page.items.into_iter().map(|item| item.key));
            let Some(next) = page.next else { break };
            query = query.resume(next);
        }
        assert!(listed == written, "{} of {count}", listed.len());
        assert_eq!(store.clear(&prefix).await.unwrap(), u64::from(count));
    }
    // With one bucket a transaction may contain any keys.
    let one = at(&cluster.url()).namespace("one").buckets(1).open().await.unwrap();
    assert_eq!(one.info().capabilities.transactions, Transactions::Any);
    let both = Transaction::new().set(key("a"), "1", Expiry::Never).set(key("b"), "2", Expiry::Never);
    assert!(one.commit(&both).await.unwrap().is_committed());
    assert_eq!(support::keys(&one).await, [key("a"), key("b")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moving_slots_under_load_loses_no_write_and_makes_no_write_indeterminate() {
    let mut cluster = RedisCluster::start().unwrap();
    let store = open(&cluster).await;
    let counters: Vec<Key> = (0..8).map(|at| Key::new(["count", &at.to_string()]).unwrap()).collect();
    let kept: Vec<Key> = (0..2_000).map(|at| Key::new(["kept", &at.to_string()]).unwrap()).collect();
    fill(&store, &kept).await;
    let (stop, stopped) = watch::channel(false);
    let tasks: Vec<_> =
        counters.iter().map(|key| tokio::spawn(count_until(store.clone(), key.clone(), stopped.clone()))).collect();
    SystemClock.sleep(Duration::from_millis(100)).await;
    // The slots to move are those of the counters and of some other buckets. The test computes these slots from the
    // keys that the servers list.
    let names: Vec<String> = ["kv#{*}count#*", "kv!{*}"]
        .iter()
        .flat_map(|pattern| {
            cluster.nodes().iter().take(3).map(|node| node.cli(&["KEYS", pattern]).unwrap()).collect::<Vec<_>>()
        })
        .collect();
    let (counted, buckets) = names.split_at(3);
    let counted: Vec<String> = counted.iter().flat_map(|names| names.lines()).map(str::to_owned).collect();
    assert_eq!(counted.len(), counters.len(), "{counted:?}");
    let moved: Vec<String> = counted
        .into_iter()
        .chain(buckets.iter().flat_map(|names| names.lines()).step_by(9).map(str::to_owned))
        .collect();
    let moving = tokio::task::spawn_blocking(move || {
        let mut slots: Vec<u16> = moved.iter().map(|name| cluster.slot_of(name).unwrap()).collect();
        slots.sort_unstable();
        slots.dedup();
        for slot in slots {
            let from = cluster.master_of_slot(slot).unwrap();
            cluster.move_slot(slot, from, (from + 1) % 3).unwrap();
        }
        cluster
    });
    // Writes and reads succeed, and lists are complete, while the slots are moved.
    let mut fresh = Vec::new();
    while !moving.is_finished() {
        let written = Key::new(["fresh", &fresh.len().to_string()]).unwrap();
        let outcome = store.set(&written, "v".into(), &SetOptions::default().with_when(When::Absent)).await;
        assert!(outcome.unwrap().is_stored());
        fresh.push(written);
        let listed = store.list(&ListQuery::new(KeyPrefix::new(["kept", "1"]).unwrap())).await.unwrap();
        assert_eq!(listed.items.len(), 1);
        assert!(store.get_many(&kept[..50]).await.into_iter().all(|entry| entry.unwrap().is_some()));
    }
    let cluster = moving.await.unwrap();
    assert!(store.get_many(&fresh).await.into_iter().all(|entry| entry.unwrap().is_some()));
    assert_eq!(support::keys(&store).await.iter().filter(|key| key.as_str().starts_with("kept")).count(), 2_000);
    stop.send(true).unwrap();
    for (task, key) in tasks.into_iter().zip(&counters) {
        let tally = tokio::time::timeout(Duration::from_secs(30), task).await.unwrap().unwrap();
        assert_eq!((tally.indeterminate, tally.unavailable), (0, 0), "{tally:?}");
        let entry = store.get(key).await.unwrap().unwrap();
        assert_eq!(entry.value, tally.acknowledged.to_string());
    }
    assert!(store.get_many(&kept).await.into_iter().all(|entry| entry.unwrap().is_some()));
    drop(cluster);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handle_works_after_the_failover_of_a_master() {
    let mut cluster = RedisCluster::start().unwrap();
    let store = open(&cluster).await;
    let mut stream = store.watch(&WatchQuery::prefix(KeyPrefix::new(["w"]).unwrap())).await.unwrap();
    let counters: Vec<Key> = (0..12).map(|at| Key::new(["count", &at.to_string()]).unwrap()).collect();
    let (stop, stopped) = watch::channel(false);
    let tasks: Vec<_> =
        counters.iter().map(|key| tokio::spawn(count_until(store.clone(), key.clone(), stopped.clone()))).collect();
    SystemClock.sleep(Duration::from_millis(300)).await;
    let cluster = tokio::task::spawn_blocking(move || {
        cluster.kill_master(0).unwrap();
        cluster.wait_for_failover().unwrap();
        cluster
    });
    let cluster = cluster.await.unwrap();
    stop.send(true).unwrap();
    for task in tasks {
        let tally = tokio::time::timeout(Duration::from_secs(30), task).await.unwrap().unwrap();
        assert!(tally.longest < Duration::from_secs(15), "{tally:?}");
    }
    // The failover may lose writes, so the counters are not compared. Every bucket must work again, and the watcher
    // must get a gap.
    let keys: Vec<Key> = (0..500).map(|at| Key::new(["after", &at.to_string()]).unwrap()).collect();
    fill(&store, &keys).await;
    assert!(store.get_many(&keys).await.into_iter().all(|entry| entry.unwrap().is_some()));
    assert!(matches!(next_event(&mut stream).await, WatchEvent::Gap { .. }));
    eventually(|| async { store.increment(&counters[0], 1, &IncrementOptions::default()).await.is_ok() }).await;
    for number in 0..60 {
        let watched = Key::new(["w", &number.to_string()]).unwrap();
        let _ = store.set(&watched, "v".into(), &SetOptions::default()).await.unwrap();
        loop {
            match next_event(&mut stream).await {
                WatchEvent::Set { key, .. } if key == watched => break,
                WatchEvent::Gap { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }
    drop(cluster);
}
