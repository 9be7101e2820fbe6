//! What it costs that changes can be watched.

use std::hint::black_box;
use std::sync::Arc;

use anykv::hub::{Changes, Hub};
use anykv::memory::MemoryStore;
use anykv::redis::Index;
use anykv::{KeyPrefix, KvStore, WatchQuery};
use kv_cli::bench::{Dataset, Operation, Side, StoreSubject, figure, load};
use test_servers::redis::Redis;

use super::memory::times;
use super::{Measuring, apart, postgres, redis};
use crate::bar::{Bar, Required};
use crate::raw::Inline;
use crate::rounds::median;

/// So many tasks overwrite.
const TASKS: usize = 16;

pub(super) async fn bars(measuring: &Measuring) -> Vec<Bar> {
    let mut bars = vec![apart(|| unheard(measuring))];
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
        load(&side, &measuring.progress).await.unwrap();
        bars.push(watched_elsewhere(name, &store, &side, measuring).await);
        store.close().await.unwrap();
    }
    bars.push(without_trigger(&server, &dataset, measuring).await);
    bars
}

/// In memory a write that nobody hears asks one hub whether anybody listens.
fn unheard(measuring: &Measuring) -> Bar {
    let (rounds, hub) = (measuring.rounds(), Hub::<Changes>::new());
    let store: Arc<dyn KvStore> = Arc::new(MemoryStore::new());
    let keys: Vec<_> = (0..10_000).map(|number| Dataset::key(number).unwrap()).collect();
    for key in &keys {
        Inline::set(&store, key, "value".into());
    }
    let mut places = [0; 2];
    let [set, told] = rounds.run_inline(|side| match side {
        0 => rounds.nanos(&keys, &mut places[0], |key| Inline::set(&store, key, "value".into())),
        _ => rounds.nanos(&keys, &mut places[1], |key| {
            if black_box(&hub).has_subscribers() {
                black_box(key);
            }
        }),
    });
    let what = "kv-memory, unwatched: share of an overwrite that asks whether anybody listens";
    Bar::new("bar-watch", what, Required::AtMost(0.05), &told.over(&set)).beside(times(&told, &set))
}

/// A watcher on a prefix that nobody writes, in every other turn.
async fn watched_elsewhere(name: &str, store: &Arc<dyn KvStore>, side: &Side, measuring: &Measuring) -> Bar {
    let rounds = measuring.rounds();
    measuring.progress.stage("watch", 0);
    let [watched, alone] = rounds
        .run(async |turn| {
            let watching = match turn {
                0 => Some(store.watch(&WatchQuery::prefix(KeyPrefix::new(["elsewhere"]).unwrap())).await.unwrap()),
                _ => None,
            };
            let rate = rounds.rate_of_tasks(side, Operation::Overwrite, TASKS).await;
            drop(watching);
            rate
        })
        .await;
    let what = format!("{name}: overwrite with a watcher on another prefix beside none, {TASKS} tasks: rate");
    Bar::new("bar-watch", what, Required::AtLeast(0.9), &watched.over(&alone)).beside(format!(
        "{}/s, {}/s",
        figure(median(&watched)),
        figure(median(&alone))
    ))
}

/// On PostgreSQL the table has a trigger, which is disabled while nobody watches; the other table has lost it.
async fn without_trigger(
    server: &Arc<test_servers::postgres::Postgres>,
    dataset: &Arc<Dataset>,
    measuring: &Measuring,
) -> Bar {
    let mut sides = Vec::new();
    for table in ["with_trigger", "without_trigger"] {
        let store = open_table(server, table).await;
        let side = Side::new(Arc::new(StoreSubject::new(table, store)), Arc::clone(dataset));
        load(&side, &measuring.progress).await.unwrap();
        sides.push(side);
    }
    let triggers = "SELECT tgname FROM pg_trigger WHERE tgrelid = 'without_trigger'::regclass AND NOT tgisinternal";
    for trigger in server.psql("kv", triggers).unwrap().lines() {
        server.psql("kv", &format!("DROP TRIGGER \"{trigger}\" ON without_trigger")).unwrap();
    }
    let rounds = measuring.rounds();
    let [with, without] =
        rounds.run(async |side| rounds.rate_of_tasks(&sides[side], Operation::Overwrite, TASKS).await).await;
    let what = format!("kv-postgres, unwatched: overwrite beside a table without trigger, {TASKS} tasks: rate");
    Bar::new("bar-watch", what, Required::AtLeast(0.95), &with.over(&without)).beside(format!(
        "{}/s, {}/s",
        figure(median(&with)),
        figure(median(&without))
    ))
}

async fn open_table(server: &test_servers::postgres::Postgres, table: &str) -> Arc<dyn KvStore> {
    postgres::open(server, table).await
}
