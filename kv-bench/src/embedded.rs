//! The embedded stores beside each other.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anykv::{Durability, KeyPrefix, KvStore, ListQuery, SetItem, SetOptions, StoreUrl, Survives};
use bytesize::ByteSize;
use futures_util::future::join_all;

use crate::rounds::{in_turns, median};
use crate::table::Table;
use crate::traffic::{any, key, value};

const VALUE_BYTES: usize = 100;
/// How often something that takes long is repeated.
const REPEATS: usize = 3;

struct Subject {
    url: String,
    store: Arc<dyn KvStore>,
}

pub(crate) async fn run(entries: u64) -> Table {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let urls = [("kv-sqlite", format!("sqlite:{}", at("sqlite/kv.db"))), ("kv-sled", format!("sled:{}", at("sled")))];
    let folders = [folder.path().join("sqlite"), folder.path().join("sled")];
    let mut table = Table::new(urls.iter().map(|(name, _)| *name));
    let mut subjects = Vec::new();
    for (_, url) in urls {
        subjects.push(Subject { store: open(&url).await, url });
    }
    let survives: Vec<_> =
        subjects.iter().map(|subject| survives(subject.store.info().capabilities.durability)).collect();
    table.row("an acknowledged write survives", &survives);

    let mut loading = Vec::new();
    for subject in &subjects {
        let start = Instant::now();
        load(&*subject.store, entries).await;
        loading.push(start.elapsed());
    }
    table.row(format!("loading {entries} entries of {VALUE_BYTES} B, 1,000 a call"), &loading);
    table.row("get, 1 task", &in_turns(&mut subjects, async |subject| gets(&*subject.store, entries).await).await);
    table.row("list of 100", &in_turns(&mut subjects, async |subject| lists(&*subject.store, entries).await).await);
    for tasks in [1, 16, 64] {
        let rates = in_turns(&mut subjects, async |subject| sets(&*subject.store, entries, tasks).await).await;
        table.row(format!("set, {tasks} tasks"), &rates);
    }
    let (mut reopening, mut checking) = (Vec::new(), Vec::new());
    for subject in &mut subjects {
        reopening.push(reopen(subject).await);
        subject.store.close().await.unwrap();
        checking.push(verify(&subject.url, entries).await);
        subject.store = open(&subject.url).await;
    }
    table.row("files after that", &folders.each_ref().map(|folder| ByteSize(size(folder))));
    table.row("opening again", &reopening);
    table.row("`kv verify`", &checking);
    for subject in &subjects {
        subject.store.clear(&KeyPrefix::ALL).await.unwrap();
    }
    table.row("100 keys of 1 KB overwritten 200,000 times, 100 a call: the files at most", &churn(folder.path()).await);
    table
}

async fn open(url: &str) -> Arc<dyn KvStore> {
    let path = url.split_once(':').map_or(url, |(_, path)| path);
    fs::create_dir_all(Path::new(path).parent().unwrap()).unwrap();
    anykv::registry().open_store(url.parse::<StoreUrl>().unwrap()).await.unwrap()
}

async fn load(store: &dyn KvStore, entries: u64) {
    let numbers: Vec<_> = (0..entries).collect();
    for numbers in numbers.chunks(1_000) {
        let items: Vec<_> = numbers.iter().map(|&number| SetItem::new(key(number), value(VALUE_BYTES))).collect();
        assert!(store.set_many(&items).await.iter().all(Result::is_ok));
    }
}

async fn gets(store: &dyn KvStore, entries: u64) -> usize {
    for _ in 0..100 {
        assert!(store.get(&any(entries)).await.unwrap().is_some());
    }
    100
}

async fn lists(store: &dyn KvStore, entries: u64) -> usize {
    for _ in 0..10 {
        let page = store.list(&ListQuery::default().with_after(any(entries)).with_limit(100)).await.unwrap();
        assert!(page.items.len() <= 100);
    }
    10
}

/// Tasks that overwrite, each waiting for its acknowledgement before its next write.
async fn sets(store: &dyn KvStore, entries: u64, tasks: usize) -> usize {
    const WRITES: usize = 20;
    join_all((0..tasks).map(|_| async {
        for _ in 0..WRITES {
            let outcome = store.set(&any(entries), value(VALUE_BYTES), &SetOptions::default()).await;
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
    median(times)
}

async fn verify(url: &str, entries: u64) -> Duration {
    let mut times = Vec::new();
    for _ in 0..REPEATS {
        let start = Instant::now();
        let found = anykv::registry().verify(url, Box::new(|_, _| Ok(()))).await.unwrap();
        assert!(found.is_sound() && found.entries == entries, "{found:?}");
        times.push(start.elapsed());
    }
    median(times)
}

/// The most that each store's files take.
async fn churn(folder: &Path) -> Vec<ByteSize> {
    let keys: Vec<_> = (0..100).map(key).collect();
    let mut most = Vec::new();
    for scheme in ["sqlite", "sled"] {
        let own = folder.join(format!("churn-{scheme}"));
        fs::create_dir(&own).unwrap();
        let store = open(&format!("{scheme}:{}", own.join("store").display())).await;
        let mut largest = 0;
        for round in 0..2_000 {
            let items: Vec<_> = keys.iter().map(|key| SetItem::new(key.clone(), value(1_000))).collect();
            assert!(store.set_many(&items).await.iter().all(Result::is_ok));
            if round % 100 == 0 {
                largest = largest.max(size(&own));
            }
        }
        store.close().await.unwrap();
        most.push(ByteSize(largest));
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
