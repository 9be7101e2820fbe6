//! A log with a gap: sled has freed a segment at which it would begin to check the end of its log. With the snapshot of
//! the last opening, sled does not read that segment. Without that snapshot, sled alone would erase the log.
//!
//! `GAP_STORES` sets the number of random stores, 20 by default. More stores are made until one has a gap. `GAP_SEED` repeats the stores.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use kv_core::{ErrorKind, Key, KvStore, SetOptions};
use kv_sled::{SledStore, verify};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::damage::{copy, files};

const SEGMENT_BYTES: usize = 512 << 10;

type Entries = BTreeMap<Key, Bytes>;

/// The numbers of the segments, by log position, and the number of the segment at which sled begins to check the log
/// if there is no snapshot.
fn segments(path: &Path) -> (BTreeSet<u64>, u64) {
    let log = fs::read(path.join("db")).unwrap();
    let number = |bytes: &[u8]| i64::from_le_bytes(bytes.try_into().unwrap()) ^ i64::MAX;
    let is_used = |segment: &&[u8]| segment.len() >= 20 && segment[..20] != [0; 20];
    let (mut segments, mut begin) = (BTreeSet::new(), 0);
    for segment in log.chunks(SEGMENT_BYTES).filter(is_used) {
        segments.insert(u64::try_from(number(&segment[4..12])).unwrap() / SEGMENT_BYTES as u64);
        begin = begin.max(u64::try_from(number(&segment[12..20])).unwrap_or(0) / SEGMENT_BYTES as u64);
    }
    (segments, begin)
}

fn has_gap(path: &Path) -> bool {
    let (segments, begin) = segments(path);
    (begin..=segments.last().copied().unwrap()).any(|segment| !segments.contains(&segment))
}

/// Opens the store with sled alone, as a process does that is killed after opening. sled frees the segments that hold
/// nothing live.
fn open_with_sled(path: &Path) {
    drop(sled::Config::new().path(path).mode(sled::Mode::LowSpace).flush_every_ms(None).open().unwrap());
}

fn snapshots(path: &Path) -> Vec<PathBuf> {
    let is_snapshot = |file: &PathBuf| file.file_name().unwrap().to_str().unwrap().starts_with("snap.");
    files(path).into_iter().filter(is_snapshot).collect()
}

fn remove_snapshots(path: &Path) {
    for snapshot in snapshots(path) {
        fs::remove_file(snapshot).unwrap();
    }
}

/// Writes a random store with few keys that are overwritten, in two sessions, and closes the store. Returns the
/// entries. The snapshot is that of the second opening.
async fn random_store(path: &Path, random: &mut StdRng) -> Entries {
    let mut entries = Entries::new();
    let mut store = SledStore::open(path).await.unwrap();
    let (keys, writes) = (random.random_range(1..6), random.random_range(3..40_u64));
    for write in 0..writes {
        if write == writes / 2 {
            store.close().await.unwrap();
            store = SledStore::open(path).await.unwrap();
        }
        let key = Key::new(["large", &random.random_range(0..keys).to_string()]).unwrap();
        let bytes = [100, 5_000, 40_000, 70_000, 150_000, 300_000][random.random_range(0..6)];
        let mut value = write.to_le_bytes().to_vec();
        value.resize(bytes, 7);
        let _ = store.set(&key, value.clone().into(), &SetOptions::default()).await.unwrap();
        entries.insert(key, value.into());
    }
    store.close().await.unwrap();
    entries
}

/// Asserts that the store opens twice with exactly these entries. The second opening uses the snapshot of the first.
async fn assert_opens_with(path: &Path, entries: &Entries, context: &str) {
    for opening in 1..=2 {
        let store = SledStore::open(path).await.unwrap_or_else(|error| panic!("{context}, opening {opening}: {error}"));
        for (key, value) in entries {
            let found = store.get(key).await.unwrap();
            assert!(found.is_some_and(|entry| entry.value == *value), "{context}, opening {opening}: {key:?}");
        }
        store.close().await.unwrap();
        let found = verify(path).unwrap();
        assert!(found.is_whole && found.entries == entries.len() as u64, "{context}, opening {opening}: {found:?}");
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |number| number.parse().unwrap())
}

#[tokio::test]
async fn a_store_without_its_snapshot_opens_with_all_entries_if_its_log_has_a_gap() {
    let (seed, stores) = (number("GAP_SEED", rand::random()), number("GAP_STORES", 20));
    println!("GAP_SEED={seed}");
    let (mut random, mut gaps, mut number) = (StdRng::seed_from_u64(seed), 0, 0);
    while number < stores || gaps == 0 {
        number += 1;
        assert!(number < stores + 400, "no store had a gap");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let entries = random_store(&path, &mut random).await;
        let older = folder.path().join("older");
        copy(&path, &older);
        for is_read_only in [false, true] {
            if is_read_only {
                SledStore::open(&path).await.unwrap().close().await.unwrap();
            }
            assert!(!has_gap(&path), "store {number}: a closed store depends on its snapshot");
        }
        open_with_sled(&path);
        if !has_gap(&path) {
            continue;
        }
        gaps += 1;
        for (name, is_clean, is_older) in [
            ("closed", true, false),
            ("crashed", false, false),
            ("closed, older snapshot", true, true),
            ("crashed, older snapshot", false, true),
        ] {
            let copied = folder.path().join(name);
            copy(&path, &copied);
            remove_snapshots(&copied);
            if is_older {
                // A loss of power may undo that sled has replaced a snapshot, and not that it has freed a segment.
                for snapshot in snapshots(&older) {
                    fs::copy(&snapshot, copied.join(snapshot.file_name().unwrap())).unwrap();
                }
            }
            if !is_clean {
                fs::remove_file(copied.join("sealed")).unwrap();
            }
            assert_opens_with(&copied, &entries, &format!("store {number}, {name}")).await;
        }
        assert_opens_with(&path, &entries, &format!("store {number}, with its snapshot")).await;
    }
    println!("{number} stores, {gaps} with a gap");
}

/// A folder's files with their content.
fn content(path: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    files(path).into_iter().map(|file| (file.clone(), fs::read(file).unwrap())).collect()
}

#[tokio::test]
async fn a_log_that_misses_live_segments_is_refused_and_not_changed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let store = SledStore::open(&path).await.unwrap();
    for number in 0..200 {
        let key = Key::new(["entry", &number.to_string()]).unwrap();
        let _ = store.set(&key, vec![7; 10_000].into(), &SetOptions::default()).await.unwrap();
    }
    store.close().await.unwrap();
    remove_snapshots(&path);
    let (present, begin) = segments(&path);
    assert!(present.contains(&begin) && present.len() > 2, "{present:?} {begin}");
    let mut log = fs::read(path.join("db")).unwrap();
    let start = |segment: &[u8]| u64::from_le_bytes(segment[4..12].try_into().unwrap()) ^ (u64::MAX >> 1);
    let lost = log.chunks_mut(SEGMENT_BYTES).find(|segment| start(segment) == begin * SEGMENT_BYTES as u64).unwrap();
    lost.fill(0);
    fs::write(path.join("db"), log).unwrap();
    for is_clean in [true, false] {
        if !is_clean {
            fs::remove_file(path.join("sealed")).unwrap();
        }
        let before = content(&path);
        let error = SledStore::open(&path).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert!(error.to_string().contains("kv verify --salvage"), "{error}");
        assert!(content(&path) == before, "the refused store was changed");
        assert!(verify(&path).unwrap().entries > 0);
    }
}
