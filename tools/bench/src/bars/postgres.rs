//! The PostgreSQL store compared with a connection pool of the driver, on the same server with `fsync` on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anykv::postgres::PostgresStore;
use anykv::{Bytes, Expiry, KvStore, SetItem, SetOptions};
use kv_cli::bench::{Dataset, Operation, Random, Series, Side, StoreSubject, Subject, load};
use test_servers::postgres::Postgres;

use super::{BenchOptions, throughput_bar};
use crate::bar::{Bar, Required};
use crate::counters::Flushes;
use crate::raw::{CONNECTIONS, RawPostgres, RemoteSubject};
use crate::rounds::median;

/// Starts a server whose acknowledged writes survive a loss of power.
pub(crate) fn server() -> Arc<Postgres> {
    Arc::new(Postgres::builder().fsync(true).setting("shared_buffers", "512MB").start().unwrap())
}

/// Opens a store in its own table, with as many connections as the raw driver has.
pub(crate) async fn open(server: &Postgres, table: &str) -> Arc<dyn KvStore> {
    let builder = PostgresStore::builder().url(&server.url()).unwrap().table(table).connections(CONNECTIONS);
    Arc::new(builder.open().await.unwrap())
}

pub(super) async fn bars(options: &BenchOptions, is_selected: &dyn Fn(&str) -> bool) -> Vec<Bar> {
    let server = server();
    let mut bars = Vec::new();
    if is_selected("bar-pg-get") || is_selected("bar-pg-set") {
        let dataset = Arc::new(Dataset::new(10_000, 100, 1).unwrap());
        let raw = Arc::new(RemoteSubject(RawPostgres::open(&server.url()).await));
        let ours = Arc::new(StoreSubject::new("kv-postgres", open(&server, "bench").await));
        let side = |subject: Arc<dyn Subject>| Side::new(subject, Arc::clone(&dataset));
        let counted = |side: Side| side.with_counters(Arc::new(Flushes(Arc::clone(&server))));
        let sides = [counted(side(raw)), counted(side(ours))];
        for side in &sides {
            load(side, &options.progress).await.unwrap();
        }
        if is_selected("bar-pg-get") {
            for (tasks, min) in [(1, 0.95), (16, 1.5), (256, 5.0)] {
                let closed = options.closed_loop(&sides, Operation::Get, tasks).await;
                bars.push(throughput_bar("bar-pg-get", "get vs pooled SELECT", min, &closed, 1));
            }
        }
        if is_selected("bar-pg-set") {
            for (tasks, min) in [(1, 0.9), (16, 2.0), (256, 6.0)] {
                let closed = options.closed_loop(&sides, Operation::Overwrite, tasks).await;
                bars.push(throughput_bar("bar-pg-set", "durable overwrite vs pooled upsert", min, &closed, 1));
            }
        }
    }
    if is_selected("bar-pg-flat") {
        bars.extend(latency_by_table_size(&server, options).await);
        bars.extend(churn(&server).await);
    }
    bars
}

/// Compares the latency of calls on a table of 1,000,000 rows with the latency on a table of 1,000 rows.
async fn latency_by_table_size(server: &Postgres, options: &BenchOptions) -> Vec<Bar> {
    let mut sides = Vec::new();
    for (table, entries) in [("small", 1_000), ("large", 1_000_000)] {
        let dataset = Arc::new(Dataset::new(entries, 100, 1).unwrap());
        let side = Side::new(Arc::new(StoreSubject::new(table, open(server, table).await)), dataset);
        load(&side, &options.progress).await.unwrap();
        // Warm-up: a server process maps each page of the shared buffers on its first access.
        let mut traffic = side.dataset.traffic();
        side.subject.operate(Operation::Get, &mut traffic, 50_000).await.unwrap();
        sides.push((side, traffic));
    }
    let mut bars = Vec::new();
    for operation in [Operation::Get, Operation::Overwrite, Operation::SetTtl] {
        let rounds = options.rounds();
        let mut figures = [Series::default(), Series::default()];
        for round in 0..=rounds.count {
            // Alternate call by call, so that noise of the disk affects both sides.
            let (start, mut times) = (Instant::now(), [Series::default(), Series::default()]);
            while start.elapsed() < 2 * rounds.slice || times[0].0.len() < 50 {
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
        let label = format!("{operation}: p50, 1,000,000 rows vs 1,000: time");
        let [large_micros, small_micros] = [&large, &small].map(median);
        let bar = Bar::new("bar-pg-flat", label, Required::AtMost(1.5), &large.over(&small));
        bars.push(bar.details(format!("{large_micros:.0} µs, {small_micros:.0} µs")));
    }
    bars
}

/// Measures the share of HOT updates and the growth of the table under 1,000,000 overwrites of 10,000 keys, all with a
/// TTL.
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
    // A session reports its statistics only after it has been idle for a while.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let statistics = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'churn'";
    let statistics = server.psql("kv", statistics).unwrap();
    let (updates, hot) = statistics.trim().split_once('|').unwrap();
    let (updates, hot): (f64, f64) = (updates.parse().unwrap(), hot.parse().unwrap());
    vec![
        Bar::once("bar-pg-flat", "overwrite with TTL: share of HOT updates", Required::AtLeast(0.5), hot / updates)
            .details(format!("{updates} overwrites")),
        // If dead rows were never removed, the table would be about 80 times as large.
        Bar::once(
            "bar-pg-flat",
            "1,000,000 overwrites of 10,000 keys: largest table size vs size after load",
            Required::AtMost(4.0),
            largest as f64 / loaded as f64,
        )
        .details(format!("{:.1} MB, {:.1} MB", largest as f64 / 1e6, loaded as f64 / 1e6)),
    ]
}
