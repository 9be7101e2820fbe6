//! The cost of change notification for writers.

use std::hint::black_box;
use std::sync::Arc;

use anykv::hub::{Changes, Hub};
use anykv::memory::MemoryStore;
use anykv::redis::Index;
use anykv::{KeyPrefix, KvStore, WatchQuery};
use kv_cli::bench::{Dataset, Operation, Side, StoreSubject, figure, load};
use test_servers::redis::Redis;

use super::memory::medians;
use super::{BenchOptions, on_own_thread, postgres, redis};
use crate::bar::{Bar, Required};
use crate::raw::SyncDriver;
use crate::rounds::median;

/// The number of tasks that overwrite.
const TASKS: usize = 16;

pub(super) async fn bars(options: &BenchOptions) -> Vec<Bar> {
    let mut bars = vec![on_own_thread(|| subscriber_check(options))];
    let folder = tempfile::tempdir().unwrap();
    let sqlite = anykv::sqlite::SqliteStore::open(folder.path().join("kv.db")).await.unwrap();
    let sled = anykv::sled::SledStore::open(folder.path().join("kv.sled")).await.unwrap();
    let redis_server = Redis::start().unwrap();
    let redis = redis::open(&redis_server.url(), "kv", Index::Auto).await;
    let server = postgres::server();
    let stores: [(&str, Arc<dyn KvStore>); 5] = [
        ("kv-memory", Arc::new(MemoryStore::new())),
        ("kv-sqlite", Arc::new(sqlite)),
        ("kv-sled", Arc::new(sled)),
        ("kv-redis", Arc::new(redis)),
        ("kv-postgres", postgres::open(&server, "watched").await),
    ];
    let dataset = Arc::new(Dataset::new(10_000, 100, 1).unwrap());
    for (name, store) in stores {
        let side = Side::new(Arc::new(StoreSubject::new(name, Arc::clone(&store))), Arc::clone(&dataset));
        load(&side, &options.progress).await.unwrap();
        bars.push(watcher_on_another_prefix(name, &store, &side, options).await);
        store.close().await.unwrap();
    }
    bars.push(without_trigger(&server, &dataset, options).await);
    bars
}

/// Measures the check for subscribers. In memory, a write without watchers checks one hub.
fn subscriber_check(options: &BenchOptions) -> Bar {
    let (rounds, hub) = (options.rounds(), Hub::<Changes>::new());
    let store: Arc<dyn KvStore> = Arc::new(MemoryStore::new());
    let keys: Vec<_> = (0..10_000).map(|number| Dataset::key(number).unwrap()).collect();
    for key in &keys {
        SyncDriver::set(&store, key, "value".into());
    }
    let mut positions = [0; 2];
    let [set, check] = rounds.run_inline(|side| match side {
        0 => rounds.nanos(&keys, &mut positions[0], |key| SyncDriver::set(&store, key, "value".into())),
        _ => rounds.nanos(&keys, &mut positions[1], |key| {
            if black_box(&hub).has_subscribers() {
                black_box(key);
            }
        }),
    });
    let label = "kv-memory without watchers: share of an overwrite spent on the subscriber check";
    Bar::new("bar-watch", label, Required::AtMost(0.05), &check.over(&set)).details(medians(&check, &set))
}

/// Compares overwrites with a watcher on a prefix without writes against overwrites without a watcher.
async fn watcher_on_another_prefix(name: &str, store: &Arc<dyn KvStore>, side: &Side, options: &BenchOptions) -> Bar {
    let rounds = options.rounds();
    options.progress.stage("watch", 0);
    let [watched, alone] = rounds
        .run(async |watched| {
            let watcher = match watched {
                0 => Some(store.watch(&WatchQuery::prefix(KeyPrefix::new(["elsewhere"]).unwrap())).await.unwrap()),
                _ => None,
            };
            let throughput = rounds.throughput_of_tasks(side, Operation::Overwrite, TASKS).await;
            drop(watcher);
            throughput
        })
        .await;
    let label = format!("{name}: overwrite with a watcher on another prefix vs none, {TASKS} tasks: throughput");
    Bar::new("bar-watch", label, Required::AtLeast(0.9), &watched.over(&alone)).details(format!(
        "{}/s, {}/s",
        figure(median(&watched)),
        figure(median(&alone))
    ))
}

/// Compares a PostgreSQL table, whose trigger is disabled while there is no watcher, with a table whose trigger was
/// dropped.
async fn without_trigger(
    server: &Arc<test_servers::postgres::Postgres>,
    dataset: &Arc<Dataset>,
    options: &BenchOptions,
) -> Bar {
    let mut sides = Vec::new();
    for table in ["with_trigger", "without_trigger"] {
        let store = open_table(server, table).await;
        let side = Side::new(Arc::new(StoreSubject::new(table, store)), Arc::clone(dataset));
        load(&side, &options.progress).await.unwrap();
        sides.push(side);
    }
    let triggers = "SELECT tgname FROM pg_trigger WHERE tgrelid = 'without_trigger'::regclass AND NOT tgisinternal";
    for trigger in server.psql("kv", triggers).unwrap().lines() {
        server.psql("kv", &format!("DROP TRIGGER \"{trigger}\" ON without_trigger")).unwrap();
    }
    let rounds = options.rounds();
    let [with, without] =
        rounds.run(async |side| rounds.throughput_of_tasks(&sides[side], Operation::Overwrite, TASKS).await).await;
    let label =
        format!("kv-postgres without watchers: overwrite vs a table without trigger, {TASKS} tasks: throughput");
    Bar::new("bar-watch", label, Required::AtLeast(0.95), &with.over(&without)).details(format!(
        "{}/s, {}/s",
        figure(median(&with)),
        figure(median(&without))
    ))
}

async fn open_table(server: &test_servers::postgres::Postgres, table: &str) -> Arc<dyn KvStore> {
    postgres::open(server, table).await
}
