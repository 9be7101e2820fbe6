//! A comparison of the embedded stores.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anykv::{Durability, Key, KeyPrefix, KvStore, ListQuery, SetItem, SetOptions, StoreUrl, Survives};
use bytesize::ByteSize;
use futures_util::future::join_all;
use kv_cli::bench::{Dataset, Random, Series, Table, Traffic, spread};

use crate::rounds::Rounds;

/// The size of a value, in bytes.
const VALUE_BYTES: usize = 100;
/// The number of times that a slow measurement is repeated. The median counts.
const REPEATS: usize = 3;

struct Subject {
    url: String,
    store: Arc<dyn KvStore>,
    traffic: Traffic,
}

/// One cell for each store.
type Cells = Vec<String>;

pub(crate) async fn run(entries: u64, rounds: Rounds) -> Table {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let urls = [("kv-sqlite", format!("sqlite:{}", at("sqlite/kv.db"))), ("kv-sled", format!("sled:{}", at("sled")))];
    let folders = [folder.path().join("sqlite"), folder.path().join("sled")];
    let mut table = Table::new([""].into_iter().chain(urls.iter().map(|(name, _)| *name)));
    let mut row = |label: &str, cells: Cells| table.row([label.to_owned()].into_iter().chain(cells));
    let dataset = Arc::new(Dataset::new(entries, VALUE_BYTES, 1).unwrap());
    let mut subjects = Vec::new();
    for (_, url) in urls {
        subjects.push(Subject { store: open(&url).await, url, traffic: dataset.traffic() });
    }
    let durability = |subject: &Subject| survives(subject.store.info().capabilities.durability);
    row("an acknowledged write survives", subjects.iter().map(durability).collect());

    let mut loading = Vec::new();
    for subject in &subjects {
        let start = Instant::now();
        load(&*subject.store, entries).await;
        loading.push(format!("{:.1?}", start.elapsed()));
    }
    row(&format!("loading {entries} entries of {VALUE_BYTES} B, 1,000 per call"), loading);
    let throughput = rounds.run(async |side| {
        let Subject { store, traffic, .. } = &mut subjects[side];
        rounds.throughput(async || gets(&**store, traffic).await).await
    });
    row("get, 1 task", cells(&throughput.await));
    let throughput = rounds.run(async |side| {
        let Subject { store, traffic, .. } = &mut subjects[side];
        rounds.throughput(async || lists(&**store, traffic).await).await
    });
    row("list of 100", cells(&throughput.await));
    for tasks in [1, 16, 64] {
        let throughput = rounds.run(async |side| {
            let store = &*subjects[side].store;
            rounds.throughput(async || sets(store, &dataset, tasks).await).await
        });
        row(&format!("durable set, {tasks} task{}", if tasks == 1 { "" } else { "s" }), cells(&throughput.await));
    }
    let (mut reopening, mut checking) = (Vec::new(), Vec::new());
    for subject in &mut subjects {
        reopening.push(format!("{:.2?}", reopen(subject).await));
        subject.store.close().await.unwrap();
        checking.push(format!("{:.2?}", verify(&subject.url, entries).await));
        subject.store = open(&subject.url).await;
    }
    row("file size after that", folders.iter().map(|folder| bytes(size(folder))).collect());
    row("time to reopen", reopening);
    row("time of `kv verify`", checking);
    for subject in &subjects {
        subject.store.clear(&KeyPrefix::ALL).await.unwrap();
    }
    row("200,000 overwrites of 100 keys of 1 KB, 100 per call: largest file size", churn(folder.path()).await);
    table
}

fn cells(throughput: &[Series; 2]) -> Cells {
    throughput.iter().map(|series| format!("{}/s", spread(series.spread().unwrap()))).collect()
}

fn bytes(count: u64) -> String {
    ByteSize(count).display().si().to_string()
}

fn key(number: u64) -> Key {
    Dataset::key(number).unwrap()
}

async fn open(url: &str) -> Arc<dyn KvStore> {
    let path = url.split_once(':').map_or(url, |(_, path)| path);
    fs::create_dir_all(Path::new(path).parent().unwrap()).unwrap();
    anykv::registry().open_store(url.parse::<StoreUrl>().unwrap()).await.unwrap()
}

async fn load(store: &dyn KvStore, entries: u64) {
    let numbers: Vec<_> = (0..entries).collect();
    for numbers in numbers.chunks(1_000) {
        let mut random = Random::new(numbers[0]);
        let item = |&number: &u64| SetItem::new(key(number), random.bytes(VALUE_BYTES));
        let items: Vec<_> = numbers.iter().map(item).collect();
        assert!(store.set_many(&items).await.iter().all(Result::is_ok));
    }
}

async fn gets(store: &dyn KvStore, traffic: &mut Traffic) -> usize {
    for _ in 0..100 {
        assert!(store.get(traffic.key()).await.unwrap().is_some());
    }
    100
}

async fn lists(store: &dyn KvStore, traffic: &mut Traffic) -> usize {
    for _ in 0..10 {
        let page = store.list(&ListQuery::new(traffic.group().clone()).with_limit(100)).await.unwrap();
        assert!(!page.items.is_empty());
    }
    10
}

/// Overwrites from concurrent tasks. Each task waits for the acknowledgement before its next write.
async fn sets(store: &dyn KvStore, dataset: &Arc<Dataset>, tasks: usize) -> usize {
    const WRITES: usize = 20;
    join_all((0..tasks).map(|_| async {
        let mut traffic = dataset.traffic();
        for _ in 0..WRITES {
            let value = traffic.value();
            let outcome = store.set(traffic.key(), value, &SetOptions::default()).await;
            assert!(outcome.unwrap().is_stored());
        }
    }))
    .await;
    tasks * WRITES
}

async fn reopen(subject: &mut Subject) -> Duration {
    let mut times = Vec::new();
    for _ in 0..REPEATS {
        subject.store.close().await.unwrap();
        let start = Instant::now();
        subject.store = open(&subject.url).await;
        assert!(subject.store.get(&key(0)).await.unwrap().is_some());
        times.push(start.elapsed());
    }
    times.sort();
    times[times.len() / 2]
}

async fn verify(url: &str, entries: u64) -> Duration {
    let mut times = Vec::new();
    for _ in 0..REPEATS {
        let start = Instant::now();
        let found = anykv::registry().verify(url, Box::new(|_, _| Ok(()))).await.unwrap();
        assert!(found.is_sound() && found.entries == entries, "{found:?}");
        times.push(start.elapsed());
    }
    times.sort();
    times[times.len() / 2]
}

/// Overwrites a few keys many times and returns the largest file size of each store.
async fn churn(folder: &Path) -> Cells {
    let mut random = Random::new(3);
    let keys: Vec<_> = (0..100).map(key).collect();
    let mut sizes = Vec::new();
    for scheme in ["sqlite", "sled"] {
        let store_folder = folder.join(format!("churn-{scheme}"));
        fs::create_dir(&store_folder).unwrap();
        let store = open(&format!("{scheme}:{}", store_folder.join("store").display())).await;
        let mut largest = 0;
        for round in 0..2_000 {
            let items: Vec<_> = keys.iter().map(|key| SetItem::new(key.clone(), random.bytes(1_000))).collect();
            assert!(store.set_many(&items).await.iter().all(Result::is_ok));
            if round % 100 == 0 {
                largest = largest.max(size(&store_folder));
            }
        }
        store.close().await.unwrap();
        sizes.push(bytes(largest));
    }
    sizes
}

fn survives(durability: Durability) -> String {
    match durability.survives {
        Survives::Power => "loss of power".to_owned(),
        Survives::Process => "`kill -9`".to_owned(),
        other => format!("{other:?}"),
    }
}

/// Returns the size of all files of a folder, in bytes.
fn size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries
        .map(|entry| {
            let metadata = entry.metadata().unwrap();
            if metadata.is_dir() { size(&entry.path()) } else { metadata.len() }
        })
        .sum()
}
