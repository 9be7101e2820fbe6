//! Clusters whose masters change and whose slots are being moved. No background task refreshes the slot map of the
//! handle.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use kv_core::{
    Clock, Expires, Expiry, Key, KeyPrefix, KvStore, ListQuery, SetItem, SetOptions, SystemClock, WatchQuery,
};
use kv_redis::{Format, Index, RedisBuilder, RedisStore};
use test_servers::cluster::RedisCluster;
use test_servers::redis::Redis;

mod support;
use support::{at, eventually, keys};

/// Returns a builder of a store whose background tasks have intervals longer than a test.
fn quiet(cluster: &RedisCluster) -> RedisBuilder {
    let never = Duration::from_secs(3_600);
    at(&cluster.url()).connect_timeout(Duration::from_secs(2)).heartbeat(never).sweep_interval(never)
}

fn names(count: usize) -> Vec<Key> {
    let mut names: Vec<_> = (0..count).map(|at| Key::new([at.to_string()]).unwrap()).collect();
    names.sort();
    names
}

async fn fill(store: &RedisStore, names: &[Key], options: &SetOptions) {
    let items: Vec<_> = names.iter().map(|key| SetItem::new(key.clone(), "v").with_options(options.clone())).collect();
    assert!(store.set_many(&items).await.into_iter().all(|outcome| outcome.unwrap().is_stored()));
}

/// Makes the replica of the second master the new master, while both servers are running. The second master is chosen,
/// because the store reads the slot map from the first master.
async fn fail_over(cluster: &mut RedisCluster) {
    let [first, master, third, _, replica, _] = cluster.nodes() else { panic!("a cluster has six nodes") };
    replica.cli(&["CLUSTER", "FAILOVER"]).unwrap();
    let name = replica.cli(&["CLUSTER", "MYID"]).unwrap();
    let knows_master = |node: &Redis| {
        let view = node.cli(&["CLUSTER", "NODES"]).unwrap();
        view.lines().any(|line| line.starts_with(name.trim()) && line.contains("master"))
    };
    // Wait until every node knows the new master.
    let all = || knows_master(master) && knows_master(replica) && knows_master(first) && knows_master(third);
    eventually(|| async { all() && master.cli(&["ROLE"]).unwrap().starts_with("slave") }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scan_finds_the_keys_of_a_new_master() {
    let mut cluster = RedisCluster::start().unwrap();
    let free = quiet(&cluster).index(Index::None).open().await.unwrap();
    let plain = quiet(&cluster).namespace("plain").format(Format::Plain).open().await.unwrap();
    let names = names(300);
    for store in [&free, &plain] {
        fill(store, &names, &SetOptions::default()).await;
    }
    fail_over(&mut cluster).await;
    // The former master becomes a replica of another master. The former master then has other keys, and a scan of the
    // former master would return these keys.
    let [other, former, ..] = cluster.nodes() else { panic!("a cluster has six nodes") };
    let other = other.cli(&["CLUSTER", "MYID"]).unwrap();
    eventually(|| async { former.cli(&["CLUSTER", "REPLICATE", other.trim()]).is_ok() }).await;
    eventually(|| async { former.cli(&["INFO", "replication"]).unwrap().contains("master_link_status:up") }).await;
    for store in [&free, &plain] {
        assert_eq!(keys(store).await, names);
        assert_eq!(store.clear(&KeyPrefix::ALL).await.unwrap(), 300);
        assert_eq!(keys(store).await, []);
    }
}

/// A clock that is ahead of the system clock by a fixed duration.
#[derive(Debug)]
struct Ahead(Duration);

#[async_trait]
impl Clock for Ahead {
    fn now(&self) -> SystemTime {
        SystemClock.now() + self.0
    }

    async fn sleep(&self, duration: Duration) {
        SystemClock.sleep(duration).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_deadline_on_a_new_master_follows_the_servers_clock() {
    const TTL: Duration = Duration::from_secs(60);
    let mut cluster = RedisCluster::start().unwrap();
    let wrong = quiet(&cluster).clock(Arc::new(Ahead(TTL * 60))).open().await.unwrap();
    fail_over(&mut cluster).await;
    // The watch makes the store refresh its slot map. The clock of the new master was not measured yet.
    let _watch = wrong.watch(&WatchQuery::prefix(KeyPrefix::ALL)).await.unwrap();
    let names = names(100);
    let options = SetOptions::default().with_expiry(Expiry::After(TTL));
    let start = SystemClock.now();
    fill(&wrong, &names, &options).await;
    for entry in wrong.get_many(&names).await {
        let Expires::At(deadline) = entry.unwrap().unwrap().expires else { panic!("no deadline") };
        let off = deadline.duration_since(start + TTL).unwrap_or_else(|before| before.duration());
        assert!(off < Duration::from_secs(2), "{off:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_are_read_listed_and_overwritten_while_their_slot_is_being_moved() {
    let mut cluster = RedisCluster::start().unwrap();
    let store = quiet(&cluster).open().await.unwrap();
    let free = quiet(&cluster).namespace("free").index(Index::None).open().await.unwrap();
    // The keys have the same first two segments, so they are in the same slot.
    let names: Vec<Key> = (100..200).map(|at| Key::new(["a", "b", &at.to_string()]).unwrap()).collect();
    for (store, namespace) in [(&store, "kv"), (&free, "free")] {
        fill(store, &names, &SetOptions::default()).await;
        let pattern = format!("{namespace}#*b#100");
        let found = cluster.nodes().iter().take(3).map(|node| node.cli(&["KEYS", &pattern]).unwrap());
        let found = found.collect::<String>();
        let slot = cluster.slot_of(found.trim()).unwrap();
        let from = cluster.master_of_slot(slot).unwrap();
        let to = (from + 1) % 3;
        cluster.begin_move(slot, from, to).unwrap();
        assert_eq!(cluster.move_keys(slot, from, to, 40).unwrap(), 40);
        let start = SystemClock.now();
        assert!(store.get_many(&names).await.into_iter().all(|entry| entry.unwrap().is_some()));
        assert_eq!(keys(store).await, names);
        let page = store.list(&ListQuery::new(KeyPrefix::new(["a", "b"]).unwrap())).await.unwrap();
        assert_eq!(page.items.iter().filter(|item| item.entry.is_some()).count(), 100);
        for name in &names {
            let _ = store.set(name, "w".into(), &SetOptions::default()).await.unwrap();
        }
        assert!(start.elapsed().unwrap() < Duration::from_secs(8), "{:?}", start.elapsed());
        cluster.finish_move(slot, from, to).unwrap();
        assert_eq!(keys(store).await, names);
    }
}
