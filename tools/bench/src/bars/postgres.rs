//! The store on PostgreSQL beside a pool of the driver's connections, on one server that waits for the disk.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anykv::postgres::PostgresStore;
use anykv::{Bytes, Expiry, KvStore, SetItem, SetOptions};
use kv_cli::bench::{Dataset, Operation, Random, Series, Side, StoreSubject, Subject, load};
use test_servers::postgres::Postgres;

use super::{Measuring, rated};
use crate::bar::{Bar, Required};
use crate::counters::Flushes;
use crate::raw::{CONNECTIONS, RawPostgres, RemoteSubject};
use crate::rounds::median;

/// A server whose acknowledged writes survive a loss of power.
pub(crate) fn server() -> Arc<Postgres> {
    Arc::new(Postgres::builder().fsync(true).setting("shared_buffers", "512MB").start().unwrap())
}

/// A store in a table of its own, with as many connections as the raw side.
pub(crate) async fn open(server: &Postgres, table: &str) -> Arc<dyn KvStore> {
    let builder = PostgresStore::builder().url(&server.url()).unwrap().table(table).connections(CONNECTIONS);
    Arc::new(builder.open().await.unwrap())
}

pub(super) async fn bars(measuring: &Measuring, wants: &dyn Fn(&str) -> bool) -> Vec<Bar> {
    let server = server();
    let mut bars = Vec::new();
    if wants("bar-pg-get") || wants("bar-pg-set") {
        let dataset = Arc::new(Dataset::new(10_000, 100, 1).unwrap());
        let raw = Arc::new(RemoteSubject(RawPostgres::open(&server.url()).await));
        let ours = Arc::new(StoreSubject::new("kv-postgres", open(&server, "bench").await));
        let side = |subject: Arc<dyn Subject>| Side::new(subject, Arc::clone(&dataset));
        let counted = |side: Side| side.with_counters(Arc::new(Flushes(Arc::clone(&server))));
        let sides = [counted(side(raw)), counted(side(ours))];
        for side in &sides {
            load(side, &measuring.progress).await.unwrap();
        }
        if wants("bar-pg-get") {
            for (tasks, least) in [(1, 0.95), (16, 1.5), (256, 5.0)] {
                let closed = measuring.beside(&sides, Operation::Get, tasks).await;
                bars.push(rated("bar-pg-get", "get beside a pooled SELECT", least, &closed, 1));
            }
        }
        if wants("bar-pg-set") {
            for (tasks, least) in [(1, 0.9), (16, 2.0), (256, 6.0)] {
                let closed = measuring.beside(&sides, Operation::Overwrite, tasks).await;
                bars.push(rated("bar-pg-set", "durable overwrite beside a pooled upsert", least, &closed, 1));
            }
        }
    }
    if wants("bar-pg-flat") {
        bars.extend(flat(&server, measuring).await);
        bars.extend(churn(&server).await);
    }
    bars
}

/// What a call costs in a table of a thousand rows and in one of a million, in turns.
async fn flat(server: &Postgres, measuring: &Measuring) -> Vec<Bar> {
    let mut sides = Vec::new();
    for (table, entries) in [("small", 1_000), ("large", 1_000_000)] {
        let dataset = Arc::new(Dataset::new(entries, 100, 1).unwrap());
        let side = Side::new(Arc::new(StoreSubject::new(table, open(server, table).await)), dataset);
        load(&side, &measuring.progress).await.unwrap();
        // A process of the server maps each page of the shared memory when it first looks at it. That is paid once.
        let mut traffic = side.dataset.traffic();
        side.subject.operate(Operation::Get, &mut traffic, 50_000).await.unwrap();
        sides.push((side, traffic));
    }
    let mut bars = Vec::new();
    for operation in [Operation::Get, Operation::Overwrite, Operation::SetTtl] {
        let rounds = measuring.rounds();
        let mut figures = [Series::default(), Series::default()];
        for round in 0..=rounds.count {
            // Call by call in turns: what the disk does meanwhile is then the same for both.
            let (start, mut times) = (Instant::now(), [Series::default(), Series::default()]);
            while start.elapsed() < 2 * rounds.turn || times[0].0.len() < 50 {
                for ((side, traffic), times) in sides.iter_mut().zip(&mut times) {
                    let issued = Instant::now();
                    side.subject.operate(operation, traffic, 1).await.unwrap();
                    times.0.push(issued.elapsed().as_secs_f64() * 1e6);
                }
            }
            for (figures, times) in figures.iter_mut().zip(&times).filter(|_| round > 0) {
                figures.0.push(median(times));
            }
        }
        let [small, large] = figures;
        let what = format!("{operation}: median of 1,000,000 rows beside that of 1,000: time");
        let [micros, beside] = [&large, &small].map(median);
        let bar = Bar::new("bar-pg-flat", what, Required::AtMost(1.5), &large.over(&small));
        bars.push(bar.beside(format!("{micros:.0} µs, {beside:.0} µs")));
    }
    bars
}

/// A million overwrites of ten thousand keys, all with a time to live: how many stay in their page, how large the table gets.
async fn churn(server: &Postgres) -> Vec<Bar> {
    const KEYS: u64 = 10_000;
    let store = open(server, "churn").await;
    let options = SetOptions::default().with_expiry(Expiry::After(Duration::from_mins(10)));
    let mut random = Random::new(3);
    let mut write = async |numbers: Vec<u64>| {
        let mut item = |number| SetItem::new(Dataset::key(number).unwrap(), Bytes::from(random.bytes(100)));
        let items: Vec<_> = numbers.into_iter().map(|number| item(number).with_options(options.clone())).collect();
        assert!(store.set_many(&items).await.iter().all(Result::is_ok));
    };
    write((0..KEYS).collect()).await;
    let size = || server.psql("kv", "SELECT pg_total_relation_size('churn')").unwrap().trim().parse::<u64>().unwrap();
    let loaded = size();
    let (mut largest, mut picks) = (loaded, Random::new(5));
    for _ in 0..100 {
        write((0..10_000).map(|_| picks.below(KEYS)).collect()).await;
        largest = largest.max(size());
    }
    // The counters of a session are told when it has been idle for a while.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let counted = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'churn'";
    let counted = server.psql("kv", counted).unwrap();
    let (updates, hot) = counted.trim().split_once('|').unwrap();
    let (updates, hot): (f64, f64) = (updates.parse().unwrap(), hot.parse().unwrap());
    vec![
        Bar::once(
            "bar-pg-flat",
            "share of overwrites with ttl within their page",
            Required::AtLeast(0.5),
            hot / updates,
        )
        .beside(format!("{updates} overwrites")),
        // Rows that nothing cleans away would make it some eighty times as large.
        Bar::once(
            "bar-pg-flat",
            "1,000,000 overwrites of 10,000 keys: the table at most, beside loaded",
            Required::AtMost(4.0),
            largest as f64 / loaded as f64,
        )
        .beside(format!("{:.1} MB, {:.1} MB", largest as f64 / 1e6, loaded as f64 / 1e6)),
    ]
}
