//! The store on Redis beside one multiplexed connection of the driver, on one server.

use std::sync::Arc;
use std::time::Duration;

use anykv::KvStore;
use anykv::redis::{Index, RedisBuilder, RedisStore};
use kv_cli::bench::{Dataset, Operation, Side, StoreSubject, figure, load};
use test_servers::cluster::RedisCluster;
use test_servers::redis::Redis;

use super::{Measuring, rated};
use crate::bar::{Bar, Required};
use crate::counters::Commands;
use crate::raw::{RawRedis, RemoteSubject};
use crate::rounds::median;

/// A store on a server, in a namespace of its own; its sweeper rests, because it would be counted.
pub(crate) async fn open(url: &str, namespace: &str, index: Index) -> RedisStore {
    let builder = RedisBuilder::from_url(&url.parse().unwrap()).unwrap().namespace(namespace);
    builder.index(index).sweep_interval(Duration::from_hours(1)).open().await.unwrap()
}

pub(super) async fn bars(measuring: &Measuring, wants: &dyn Fn(&str) -> bool) -> Vec<Bar> {
    let server = Arc::new(Redis::start().unwrap());
    let dataset = Arc::new(Dataset::new(1_000_000, 100, 1).unwrap());
    let store = |name: &str, store: RedisStore| Arc::new(StoreSubject::new(name, Arc::new(store)));
    let raw = Arc::new(RemoteSubject(RawRedis::open(&server.url()).await));
    let ours = store("kv-redis", open(&server.url(), "kv", Index::Auto).await);
    let side =
        |subject| Side::new(subject, Arc::clone(&dataset)).with_counters(Arc::new(Commands(Arc::clone(&server))));
    let mut sides = vec![side(raw as _), side(ours as _)];
    if wants("bar-redis-set") {
        sides.push(side(store("kv-redis without index", open(&server.url(), "free", Index::None).await) as _));
    }
    for side in &sides {
        load(side, &measuring.progress).await.unwrap();
    }
    let mut bars = Vec::new();
    if wants("bar-redis-get") {
        for (tasks, least) in [(1, 0.95), (16, 0.95), (256, 1.0)] {
            let closed = measuring.beside(&sides[..2], Operation::Get, tasks).await;
            bars.push(rated("bar-redis-get", "get beside GET", least, &closed, 1));
        }
        for tasks in [1, 16] {
            let closed = measuring.beside(&sides[..2], Operation::GetMany, tasks).await;
            bars.push(rated("bar-redis-get", "get_many of 100 beside MGET", 0.95, &closed, 1));
        }
    }
    if wants("bar-redis-list") {
        bars.push(list("100 by prefix among 1,000,000 beside a get: time", 10.0, &sides[1], measuring).await);
    }
    if wants("bar-redis-set") {
        for tasks in [1, 16, 256] {
            let closed = measuring.beside(&sides, Operation::Overwrite, tasks).await;
            bars.push(rated("bar-redis-set", "overwrite with the index beside SET", 0.85, &closed, 1));
            bars.push(rated("bar-redis-set", "overwrite without index beside SET", 0.9, &closed, 2));
        }
        for (tasks, least) in [(1, 0.4), (256, 0.15)] {
            let closed = measuring.beside(&sides[..2], Operation::Insert, tasks).await;
            bars.push(rated("bar-redis-set", "new key among 1,000,000 beside SET", least, &closed, 1));
        }
    }
    drop(sides);
    drop(server);
    if wants("bar-redis-list") {
        bars.push(on_a_cluster(measuring, &dataset).await);
    }
    bars
}

/// A page of a hundred beside a get of the same store, by one task.
async fn list(what: &str, most: f64, side: &Side, measuring: &Measuring) -> Bar {
    let rounds = measuring.rounds();
    measuring.progress.stage("list", 0);
    let [list, get] = rounds
        .run(async |operation| {
            let operation = if operation == 0 { Operation::List } else { Operation::Get };
            rounds.rate_of_tasks(side, operation, 1).await
        })
        .await;
    Bar::new("bar-redis-list", what, Required::AtMost(most), &get.over(&list)).beside(format!(
        "{}/s, get {}/s",
        figure(median(&list)),
        figure(median(&get))
    ))
}

async fn on_a_cluster(measuring: &Measuring, dataset: &Arc<Dataset>) -> Bar {
    let cluster = RedisCluster::start().unwrap();
    let store: Arc<dyn KvStore> = Arc::new(open(&cluster.url(), "kv", Index::Auto).await);
    let side = Side::new(Arc::new(StoreSubject::new("kv-redis on a cluster", store)), Arc::clone(dataset));
    load(&side, &measuring.progress).await.unwrap();
    list("on a cluster: 100 by prefix among 1,000,000 beside a get: time", 30.0, &side, measuring).await
}
