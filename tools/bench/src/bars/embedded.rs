//! The embedded stores beside their drivers.

use std::path::Path;
use std::sync::Arc;

use anykv::{Bytes, Key, KvStore};
use kv_cli::bench::{Dataset, Operation, Random, Side, StoreSubject, Traffic, figure, load};

use super::Measuring;
use crate::bar::{Bar, Required};
use crate::raw::{Inline, InlineSubject, RawSled, RawSqlite};
use crate::rounds::{Rounds, median};
use crate::syncs;

pub(super) async fn bars(measuring: &Measuring, wants: &dyn Fn(&str) -> bool) -> Vec<Bar> {
    let mut bars = Vec::new();
    let dataset = Arc::new(Dataset::new(measuring.entries(100_000, 1_000_000), 100, 1).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let sqlite = anykv::sqlite::SqliteStore::open(folder.path().join("kv.db")).await.unwrap();
    let raw = Arc::new(InlineSubject(RawSqlite::open(folder.path())));
    bars.extend(of("kv-sqlite", Arc::new(sqlite), raw, &dataset, measuring, wants).await);

    let folder = tempfile::tempdir().unwrap();
    let sled = anykv::sled::SledStore::open(folder.path().join("kv.sled")).await.unwrap();
    let raw = Arc::new(InlineSubject(RawSled::open(folder.path())));
    bars.extend(of("kv-sled", Arc::new(sled), raw, &dataset, measuring, wants).await);
    bars
}

async fn of<D: Inline>(
    name: &str,
    store: Arc<dyn KvStore>,
    raw: Arc<InlineSubject<D>>,
    dataset: &Arc<Dataset>,
    measuring: &Measuring,
    wants: &dyn Fn(&str) -> bool,
) -> Vec<Bar> {
    let mut bars = Vec::new();
    let (rounds, entries) = (measuring.rounds(), dataset.entries());
    let ours = Side::new(Arc::new(StoreSubject::new(name, Arc::clone(&store))), Arc::clone(dataset));
    for side in [&ours, &Side::new(Arc::clone(&raw) as _, Arc::clone(dataset))] {
        load(side, &measuring.progress).await.unwrap();
    }
    measuring.progress.stage("embedded", 0);
    if wants("bar-embedded") {
        let mut traffic = [dataset.traffic(), dataset.traffic()];
        let [store_rate, raw_rate] = rounds
            .run(async |side| {
                let traffic = &mut traffic[side];
                match side {
                    0 => rounds.rate(async || gets(&*store, traffic).await).await,
                    _ => rounds.rate(async || raw_gets(&raw.0, traffic)).await,
                }
            })
            .await;
        let what = format!("{name}: warm get beside the raw driver inline, {entries} entries: time");
        bars.push(Bar::new("bar-embedded", what, Required::AtMost(1.5), &raw_rate.over(&store_rate)).beside(format!(
            "{}/s, raw {}/s",
            figure(median(&store_rate)),
            figure(median(&raw_rate))
        )));
        bars.push(sets("bar-embedded", name, 16, Required::AtMost(2.0), &ours, &raw.0, rounds).await);
    }
    if wants("bar-group-commit") {
        bars.push(sets("bar-group-commit", name, 64, Required::AtLeast(0.7), &ours, &raw.0, rounds).await);
    }
    store.close().await.unwrap();
    bars
}

/// Durable writes of so many tasks, beside one thread that commits batches of as many: the most that the driver can do for
/// that many writers.
async fn sets<D: Inline>(
    id: &'static str,
    name: &str,
    tasks: usize,
    required: Required,
    ours: &Side,
    raw: &D,
    rounds: Rounds,
) -> Bar {
    let (mut traffic, mut random) = (ours.dataset.traffic(), Random::new(11));
    let [store_rate, raw_rate] = rounds
        .run(async |side| match side {
            0 => rounds.rate_of_tasks(ours, Operation::Overwrite, tasks).await,
            _ => rounds.rate(async || raw_batch(raw, tasks, &mut traffic, &mut random)).await,
        })
        .await;
    let (ratio, unit) = match required {
        Required::AtMost(_) => (raw_rate.over(&store_rate), "time"),
        Required::AtLeast(_) => (store_rate.over(&raw_rate), "rate"),
    };
    let what = format!("{name}: durable overwrite by {tasks} tasks beside raw batches of {tasks}: {unit}");
    Bar::new(id, what, required, &ratio).beside(format!(
        "{}/s, raw {}/s; {}",
        figure(median(&store_rate)),
        figure(median(&raw_rate)),
        syncs::count(name, tasks)
    ))
}

async fn gets(store: &dyn KvStore, traffic: &mut Traffic) -> usize {
    for _ in 0..64 {
        assert!(store.get(traffic.key()).await.unwrap().is_some());
    }
    64
}

fn raw_gets(raw: &impl Inline, traffic: &mut Traffic) -> usize {
    for _ in 0..64 {
        assert!(raw.get(traffic.key()).is_some());
    }
    64
}

fn raw_batch(raw: &impl Inline, size: usize, traffic: &mut Traffic, random: &mut Random) -> usize {
    let entries: Vec<(Key, Bytes)> =
        (0..size).map(|_| (traffic.key().clone(), Bytes::from(random.bytes(100)))).collect();
    raw.set_many(&entries);
    size
}

/// Opens a store of this name in a folder, for a process that only writes.
pub(crate) async fn open(name: &str, folder: &Path) -> Arc<dyn KvStore> {
    match name {
        "kv-sqlite" => Arc::new(anykv::sqlite::SqliteStore::open(folder.join("kv.db")).await.unwrap()),
        _ => Arc::new(anykv::sled::SledStore::open(folder.join("kv.sled")).await.unwrap()),
    }
}
