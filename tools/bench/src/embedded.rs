//! The embedded stores beside each other.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anykv::{Durability, Key, KeyPrefix, KvStore, ListQuery, SetItem, SetOptions, StoreUrl, Survives};
use bytesize::ByteSize;
use futures_util::future::join_all;
use kv_cli::bench::{Dataset, Random, Series, Table, Traffic, spread};

use crate::rounds::Rounds;

const VALUE_BYTES: usize = 100;
/// How often something that takes long is repeated.
const REPEATS: usize = 3;

struct Subject {
    url: String,
    store: Arc<dyn KvStore>,
    traffic: Traffic,
}

/// One for each store.
type Cells = Vec<String>;

pub(crate) async fn run(entries: u64, rounds: Rounds) -> Table {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let urls = [("kv-sqlite", format!("sqlite:{}", at("sqlite/kv.db"))), ("kv-sled", format!("sled:{}", at("sled")))];
    let folders = [folder.path().join("sqlite"), folder.path().join("sled")];
    let mut table = Table::new([""].into_iter().chain(urls.iter().map(|(name, _)| *name)));
    let mut row = |what: &str, cells: Cells| table.row([what.to_owned()].into_iter().chain(cells));
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
    row(&format!("loading {entries} entries of {VALUE_BYTES} B, 1,000 a call"), loading);
    let rates = rounds.run(async |side| {
        let Subject { store, traffic, .. } = &mut subjects[side];
        rounds.rate(async || gets(&**store, traffic).await).await
    });
    row("get, 1 task", cells(&rates.await));
    let rates = rounds.run(async |side| {
        let Subject { store, traffic, .. } = &mut subjects[side];
        rounds.rate(async || lists(&**store, traffic).await).await
    });
    row("list of 100", cells(&rates.await));
    for tasks in [1, 16, 64] {
        let rates = rounds.run(async |side| {
            let store = &*subjects[side].store;
            rounds.rate(async || sets(store, &dataset, tasks).await).await
        });
        row(&format!("durable set, {tasks} task{}", if tasks == 1 { "" } else { "s" }), cells(&rates.await));
    }
    let (mut reopening, mut checking) = (Vec::new(), Vec::new());
    for subject in &mut subjects {
        reopening.push(format!("{:.2?}", reopen(subject).await));
        subject.store.close().await.unwrap();
        checking.push(format!("{:.2?}", verify(&subject.url, entries).await));
        subject.store = open(&subject.url).await;
    }
    row("files after that", folders.iter().map(|folder| bytes(size(folder))).collect());
    row("opening again", reopening);
    row("`kv verify`", checking);
    for subject in &subjects {
        subject.store.clear(&KeyPrefix::ALL).await.unwrap();
    }
    row("100 keys of 1 KB overwritten 200,000 times, 100 a call: the files at most", churn(folder.path()).await);
    table
}

fn cells(rates: &[Series; 2]) -> Cells {
    rates.iter().map(|rates| format!("{}/s", spread(rates.spread().unwrap()))).collect()
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

/// Tasks that overwrite, each waiting for its acknowledgement before its next write.
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

/// The most that each store's files take.
async fn churn(folder: &Path) -> Cells {
    let mut random = Random::new(3);
    let keys: Vec<_> = (0..100).map(key).collect();
    let mut most = Vec::new();
    for scheme in ["sqlite", "sled"] {
        let own = folder.join(format!("churn-{scheme}"));
        fs::create_dir(&own).unwrap();
        let store = open(&format!("{scheme}:{}", own.join("store").display())).await;
        let mut largest = 0;
        for round in 0..2_000 {
            let items: Vec<_> = keys.iter().map(|key| SetItem::new(key.clone(), random.bytes(1_000))).collect();
            assert!(store.set_many(&items).await.iter().all(Result::is_ok));
            if round % 100 == 0 {
                largest = largest.max(size(&own));
            }
        }
        store.close().await.unwrap();
        most.push(bytes(largest));
    }
    most
}

fn survives(durability: Durability) -> String {
    match durability.survives {
        Survives::Power => "loss of power".to_owned(),
        Survives::Process => "`kill -9`".to_owned(),
        other => format!("{other:?}"),
    }
}

/// How many bytes the files of a folder have.
fn size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries
        .map(|entry| {
            let about = entry.metadata().unwrap();
            if about.is_dir() { size(&entry.path()) } else { about.len() }
        })
        .sum()
}
