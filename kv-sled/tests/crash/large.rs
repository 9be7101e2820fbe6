//! Crashes while large values are overwritten: the files of replaced values must not pile up over the kills.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use kv_core::{Clock, Key, KvStore, SetOptions, SystemClock};
use kv_sled::{SledCheck, SledStore};

const FOLDER: &str = "KV_SLED_LARGE_FOLDER";
const ROUND: &str = "KV_SLED_LARGE_ROUND";
const KEYS: u32 = 20;
const VALUE_BYTES: usize = 300_000;

/// The maximum number of files of large values after opening. There are 6 MB of live values, and a page of sled holds
/// at least one value.
const MAX_FILES: usize = 2 * KEYS as usize;

fn key(number: u32) -> Key {
    Key::new(["large", &number.to_string()]).unwrap()
}

/// A value that begins with the number of its write.
fn value(write: u64) -> Bytes {
    let mut value = write.to_be_bytes().to_vec();
    value.resize(VALUE_BYTES, 7);
    value.into()
}

/// The main function of the child. It overwrites all keys again and again, and prints the number of each acknowledged
/// write.
pub(crate) fn main() {
    let Ok(path) = std::env::var(FOLDER) else { return };
    let round: u64 = std::env::var(ROUND).unwrap().parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async move {
        let store = SledStore::open(path).await.unwrap();
        for write in round * 1_000_000.. {
            let key = key(u32::try_from(write % u64::from(KEYS)).unwrap());
            let _ = store.set(&key, value(write), &SetOptions::default()).await.unwrap();
            let mut output = std::io::stdout().lock();
            writeln!(output, ">{write};").and_then(|()| output.flush()).unwrap();
        }
    });
}

/// Runs a child and kills it some time after its first acknowledged write. Returns the last acknowledged write of each
/// key.
async fn killed_child(path: &Path, round: u64) -> Vec<Option<u64>> {
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_overwrites_large_values", "--nocapture"])
        .env(FOLDER, path)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(process.stdout.take().unwrap());
    let (started, is_started) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut last = vec![None; KEYS as usize];
        for line in output.lines().map_while(Result::ok) {
            let write = line.strip_prefix('>').and_then(|line| line.strip_suffix(';')?.parse::<u64>().ok());
            if let Some(write) = write {
                let _ = started.send(());
                last[usize::try_from(write % u64::from(KEYS)).unwrap()] = Some(write);
            }
        }
        last
    });
    is_started.recv_timeout(Duration::from_secs(20)).expect("the child does not write");
    SystemClock.sleep(Duration::from_millis(20 + crate::random() % 400)).await;
    process.kill().unwrap();
    process.wait().unwrap();
    reader.join().unwrap()
}

/// The number of files of large values, and their bytes.
fn blobs(path: &Path) -> (usize, u64) {
    let files = std::fs::read_dir(path.join("blobs")).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len());
    files.fold((0, 0), |(count, bytes), length| (count + 1, bytes + length))
}

/// Asserts that a store without its snapshots opens with at least the acknowledged writes. Changes only a copy.
async fn assert_opens_without_snapshots(path: &Path, last: &[Option<u64>], context: &str) {
    let folder = tempfile::tempdir().unwrap();
    let copied = folder.path().join("store");
    copy_without_snapshots(path, &copied);
    let store = SledStore::open(&copied).await.unwrap_or_else(|error| panic!("{context}: {error}"));
    assert_has(&store, last, context).await;
    store.close().await.unwrap();
}

fn copy_without_snapshots(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_without_snapshots(&entry.path(), &target);
        } else if !entry.file_name().to_str().unwrap().starts_with("snap.") {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Asserts that each key has its last acknowledged write, or a later write.
async fn assert_has(store: &SledStore, last: &[Option<u64>], context: &str) {
    for (number, last) in (0..).zip(last) {
        let entry = store.get(&key(number)).await.unwrap();
        let found = entry.map(|entry| {
            assert_eq!(entry.value.len(), VALUE_BYTES);
            u64::from_be_bytes(*entry.value.first_chunk().unwrap())
        });
        assert!(found >= *last, "{context}: key {number} has write {found:?} instead of {last:?}");
    }
}

#[tokio::test]
async fn files_of_replaced_large_values_are_removed_at_the_next_opening_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let mut last = vec![None; KEYS as usize];
    let mut sizes = Vec::new();
    for round in 0..crate::rounds() as u64 {
        let acknowledged = killed_child(&path, round).await;
        for (last, acknowledged) in last.iter_mut().zip(acknowledged) {
            *last = acknowledged.or(*last);
        }
        assert_opens_without_snapshots(&path, &last, &format!("round {round}, killed")).await;
        let before = blobs(&path);
        // Without the comparison of all records, orphans are removed, too.
        let check = if round % 3 == 2 { SledCheck::Nothing } else { SledCheck::Everything };
        let store = SledStore::builder().check(check).open(&path).await.unwrap();
        let after = blobs(&path);
        sizes.push((before.1 >> 20, after.1 >> 20));
        assert_has(&store, &last, &format!("round {round}")).await;
        // In every second round, the next child opens the store after a clean close. In the other rounds, it opens the
        // store after a crash.
        if round % 2 == 0 {
            store.close().await.unwrap();
            assert!(kv_sled::verify(&path).unwrap().is_whole, "round {round}");
            assert_opens_without_snapshots(&path, &last, &format!("round {round}, closed")).await;
        } else {
            drop(store);
            SystemClock.sleep(Duration::from_millis(50)).await;
        }
        assert!(after.0 <= MAX_FILES, "round {round}: {} files of large values remain: {sizes:?}", after.0);
    }
    println!("megabytes of large values after each kill and after opening: {sizes:?}");
}
