//! The embedded stores compared with their drivers.

use std::path::Path;
use std::sync::Arc;

use anykv::{Bytes, Key, KvStore};
use kv_cli::bench::{Dataset, Operation, Random, Side, StoreSubject, Traffic, figure, load};

use super::BenchOptions;
use crate::bar::{Bar, Required};
use crate::raw::{RawSled, RawSqlite, SyncDriver, SyncSubject};
use crate::rounds::{Rounds, median};
use crate::syncs;

pub(super) async fn bars(options: &BenchOptions, is_selected: &dyn Fn(&str) -> bool) -> Vec<Bar> {
    let mut bars = Vec::new();
    let dataset = Arc::new(Dataset::new(options.entries(100_000, 1_000_000), 100, 1).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let sqlite = anykv::sqlite::SqliteStore::open(folder.path().join("kv.db")).await.unwrap();
    let raw = Arc::new(SyncSubject(RawSqlite::open(folder.path())));
    bars.extend(store_bars("kv-sqlite", Arc::new(sqlite), raw, &dataset, options, is_selected).await);

    let folder = tempfile::tempdir().unwrap();
    let sled = anykv::sled::SledStore::open(folder.path().join("kv.sled")).await.unwrap();
    let raw = Arc::new(SyncSubject(RawSled::open(folder.path())));
    bars.extend(store_bars("kv-sled", Arc::new(sled), raw, &dataset, options, is_selected).await);
    bars
}

async fn store_bars<D: SyncDriver>(
    name: &str,
    store: Arc<dyn KvStore>,
    raw: Arc<SyncSubject<D>>,
    dataset: &Arc<Dataset>,
    options: &BenchOptions,
    is_selected: &dyn Fn(&str) -> bool,
) -> Vec<Bar> {
    let mut bars = Vec::new();
    let (rounds, entries) = (options.rounds(), dataset.entries());
    let ours = Side::new(Arc::new(StoreSubject::new(name, Arc::clone(&store))), Arc::clone(dataset));
    for side in [&ours, &Side::new(Arc::clone(&raw) as _, Arc::clone(dataset))] {
        load(side, &options.progress).await.unwrap();
    }
    options.progress.stage("embedded", 0);
    if is_selected("bar-embedded") {
        let mut traffic = [dataset.traffic(), dataset.traffic()];
        let [store_throughput, raw_throughput] = rounds
            .run(async |side| {
                let traffic = &mut traffic[side];
                match side {
                    0 => rounds.throughput(async || get_batch(&*store, traffic).await).await,
                    _ => rounds.throughput(async || raw_get_batch(&raw.0, traffic)).await,
                }
            })
            .await;
        let label = format!("{name}: warm get vs the raw driver called inline, {entries} entries: time");
        bars.push(
            Bar::new("bar-embedded", label, Required::AtMost(1.5), &raw_throughput.over(&store_throughput))
                .details(format!("{}/s, raw {}/s", figure(median(&store_throughput)), figure(median(&raw_throughput)))),
        );
        bars.push(durable_overwrites("bar-embedded", name, 16, Required::AtMost(2.0), &ours, &raw.0, rounds).await);
    }
    if is_selected("bar-group-commit") {
        bars.push(
            durable_overwrites("bar-group-commit", name, 64, Required::AtLeast(0.7), &ours, &raw.0, rounds).await,
        );
    }
    store.close().await.unwrap();
    bars
}

/// Compares durable overwrites by `tasks` tasks with one thread that commits raw batches of `tasks` entries, which is
/// the maximum of the driver for that many writers.
async fn durable_overwrites<D: SyncDriver>(
    id: &'static str,
    name: &str,
    tasks: usize,
    required: Required,
    ours: &Side,
    raw: &D,
    rounds: Rounds,
) -> Bar {
    let (mut traffic, mut random) = (ours.dataset.traffic(), Random::new(11));
    let [store_throughput, raw_throughput] = rounds
        .run(async |side| match side {
            0 => rounds.throughput_of_tasks(ours, Operation::Overwrite, tasks).await,
            _ => rounds.throughput(async || raw_set_batch(raw, tasks, &mut traffic, &mut random)).await,
        })
        .await;
    let (ratio, unit) = match required {
        Required::AtMost(_) => (raw_throughput.over(&store_throughput), "time"),
        Required::AtLeast(_) => (store_throughput.over(&raw_throughput), "throughput"),
    };
    let label = format!("{name}: durable overwrite, {tasks} tasks vs raw batches of {tasks}: {unit}");
    Bar::new(id, label, required, &ratio).details(format!(
        "{}/s, raw {}/s; {}",
        figure(median(&store_throughput)),
        figure(median(&raw_throughput)),
        syncs::per_write(name, tasks)
    ))
}

async fn get_batch(store: &dyn KvStore, traffic: &mut Traffic) -> usize {
    for _ in 0..64 {
        assert!(store.get(traffic.key()).await.unwrap().is_some());
    }
    64
}

fn raw_get_batch(raw: &impl SyncDriver, traffic: &mut Traffic) -> usize {
    for _ in 0..64 {
        assert!(raw.get(traffic.key()).is_some());
    }
    64
}

fn raw_set_batch(raw: &impl SyncDriver, size: usize, traffic: &mut Traffic, random: &mut Random) -> usize {
    let entries: Vec<(Key, Bytes)> =
        (0..size).map(|_| (traffic.key().clone(), Bytes::from(random.bytes(100)))).collect();
    raw.set_many(&entries);
    size
}

/// Opens the store `name` in a folder, for the process that only writes.
pub(crate) async fn open(name: &str, folder: &Path) -> Arc<dyn KvStore> {
    match name {
        "kv-sqlite" => Arc::new(anykv::sqlite::SqliteStore::open(folder.join("kv.db")).await.unwrap()),
        _ => Arc::new(anykv::sled::SledStore::open(folder.join("kv.sled")).await.unwrap()),
    }
}
