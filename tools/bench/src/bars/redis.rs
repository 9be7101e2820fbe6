//! The Redis store compared with one multiplexed connection of the driver, on the same server.

use std::sync::Arc;
use std::time::Duration;

use anykv::KvStore;
use anykv::redis::{Index, RedisBuilder, RedisStore};
use kv_cli::bench::{Dataset, Operation, Side, StoreSubject, figure, load};
use test_servers::cluster::RedisCluster;
use test_servers::redis::Redis;

use super::{BenchOptions, throughput_bar};
use crate::bar::{Bar, Required};
use crate::counters::Commands;
use crate::raw::{RawRedis, RemoteSubject};
use crate::rounds::median;

/// Opens a store in its own namespace of a server. The sweep interval is one hour, because otherwise the counters would
/// include the commands of the sweeper.
pub(crate) async fn open(url: &str, namespace: &str, index: Index) -> RedisStore {
    let builder = RedisBuilder::from_url(&url.parse().unwrap()).unwrap().namespace(namespace);
    builder.index(index).sweep_interval(Duration::from_hours(1)).open().await.unwrap()
}

pub(super) async fn bars(options: &BenchOptions, is_selected: &dyn Fn(&str) -> bool) -> Vec<Bar> {
    let server = Arc::new(Redis::start().unwrap());
    let dataset = Arc::new(Dataset::new(1_000_000, 100, 1).unwrap());
    let store = |name: &str, store: RedisStore| Arc::new(StoreSubject::new(name, Arc::new(store)));
    let raw = Arc::new(RemoteSubject(RawRedis::open(&server.url()).await));
    let ours = store("kv-redis", open(&server.url(), "kv", Index::Auto).await);
    let side =
        |subject| Side::new(subject, Arc::clone(&dataset)).with_counters(Arc::new(Commands(Arc::clone(&server))));
    let mut sides = vec![side(raw as _), side(ours as _)];
    if is_selected("bar-redis-set") {
        sides.push(side(store("kv-redis without index", open(&server.url(), "free", Index::None).await) as _));
    }
    for side in &sides {
        load(side, &options.progress).await.unwrap();
    }
    let mut bars = Vec::new();
    if is_selected("bar-redis-get") {
        for (tasks, min) in [(1, 0.95), (16, 0.95), (256, 1.0)] {
            let closed = options.closed_loop(&sides[..2], Operation::Get, tasks).await;
            bars.push(throughput_bar("bar-redis-get", "get vs GET", min, &closed, 1));
        }
        for tasks in [1, 16] {
            let closed = options.closed_loop(&sides[..2], Operation::GetMany, tasks).await;
            bars.push(throughput_bar("bar-redis-get", "get_many of 100 vs MGET", 0.95, &closed, 1));
        }
    }
    if is_selected("bar-redis-list") {
        bars.push(list("list of 100 by prefix vs get, 1,000,000 entries: time", 10.0, &sides[1], options).await);
    }
    if is_selected("bar-redis-set") {
        for tasks in [1, 16, 256] {
            let closed = options.closed_loop(&sides, Operation::Overwrite, tasks).await;
            bars.push(throughput_bar("bar-redis-set", "overwrite with index vs SET", 0.85, &closed, 1));
            bars.push(throughput_bar("bar-redis-set", "overwrite without index vs SET", 0.9, &closed, 2));
        }
        for (tasks, min) in [(1, 0.4), (256, 0.15)] {
            let closed = options.closed_loop(&sides[..2], Operation::Insert, tasks).await;
            bars.push(throughput_bar("bar-redis-set", "insert vs SET, 1,000,000 entries", min, &closed, 1));
        }
    }
    drop(sides);
    drop(server);
    if is_selected("bar-redis-list") {
        bars.push(cluster_list(options, &dataset).await);
    }
    bars
}

/// Compares a page of 100 entries with a get of the same store, by one task.
async fn list(label: &str, max: f64, side: &Side, options: &BenchOptions) -> Bar {
    let rounds = options.rounds();
    options.progress.stage("list", 0);
    let [list, get] = rounds
        .run(async |operation| {
            let operation = if operation == 0 { Operation::List } else { Operation::Get };
            rounds.throughput_of_tasks(side, operation, 1).await
        })
        .await;
    Bar::new("bar-redis-list", label, Required::AtMost(max), &get.over(&list)).details(format!(
        "{}/s, get {}/s",
        figure(median(&list)),
        figure(median(&get))
    ))
}

async fn cluster_list(options: &BenchOptions, dataset: &Arc<Dataset>) -> Bar {
    let cluster = RedisCluster::start().unwrap();
    let store: Arc<dyn KvStore> = Arc::new(open(&cluster.url(), "kv", Index::Auto).await);
    let side = Side::new(Arc::new(StoreSubject::new("kv-redis on a cluster", store)), Arc::clone(dataset));
    load(&side, &options.progress).await.unwrap();
    list("cluster: list of 100 by prefix vs get, 1,000,000 entries: time", 30.0, &side, options).await
}
