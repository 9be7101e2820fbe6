//! Crashes: a child process runs random histories and is killed at random moments, many times on the same files. After
//! each kill, the store is compared with a model of the acknowledged steps.
//!
//! `CRASH_ROUNDS` sets the number of kills, 30 by default. `CRASH_SEED` repeats a history.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod child;
mod injected;
mod large;
mod model;

use std::collections::HashSet;
use std::time::Duration;

use kv_core::{Clock, Deadline, KvStore, ListQuery, SystemClock, Version, stored};
use kv_sled::{SledDurability, SledStore};

use crate::child::Child;
use crate::model::Model;

/// The main function of the child process of the other tests. Does nothing without the environment variables of a
/// child.
#[test]
fn child_that_writes() {
    child::main();
}

/// The main function of the child process that overwrites large values.
#[test]
fn child_that_overwrites_large_values() {
    large::main();
}

#[tokio::test]
async fn no_acknowledged_write_is_lost() {
    kill_repeatedly(SledDurability::Process, rounds()).await;
}

#[tokio::test]
async fn no_acknowledged_write_is_lost_with_fsync() {
    kill_repeatedly(SledDurability::Power, rounds().div_ceil(5)).await;
}

#[tokio::test]
async fn write_behind_loses_at_most_the_last_interval() {
    kill_repeatedly(SledDurability::Interval(Duration::from_millis(60)), rounds().div_ceil(5)).await;
}

fn rounds() -> usize {
    std::env::var("CRASH_ROUNDS").map_or(30, |rounds| rounds.parse().expect("CRASH_ROUNDS is not a number"))
}

async fn kill_repeatedly(durability: SledDurability, rounds: usize) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let seed =
        std::env::var("CRASH_SEED").map_or_else(|_| random(), |seed| seed.parse().expect("CRASH_SEED is not a number"));
    println!("CRASH_SEED={seed}");
    let (mut model, mut versions, mut acknowledged, mut lost) = (Model::new(seed), HashSet::new(), 0, 0);
    for round in 0..rounds {
        let child = Child::start(&path, durability, seed, round);
        SystemClock.sleep(Duration::from_millis(5 + random() % 195)).await;
        let (reports, killed) = child.kill();
        for version in reports.iter().filter_map(|report| report.version) {
            assert!(versions.insert(version), "round {round}: a version was used twice");
        }
        acknowledged += reports.iter().filter(|report| report.is_acknowledged).count();

        // Opening compares all records with the tree checksum, so a store that the crash has damaged does not open.
        let store = SledStore::open(&path).await.unwrap_or_else(|error| panic!("round {round}: {error:?}"));
        let interval = match durability {
            SledDurability::Interval(interval) => interval + killed.stalled,
            _ => Duration::ZERO,
        };
        lost += model.check(&store, &reports, killed.at, interval, round).await;
        store.close().await.unwrap();
        assert_index_agrees_with_data(&path);
    }
    println!("{durability}: {rounds} kills, {acknowledged} acknowledged writes, {lost} lost within the interval");
    assert!(acknowledged > rounds, "the children did not write: {acknowledged}");
}

/// Asserts that the deadline index has exactly the deadlines of the entries. Reads the tree with sled.
fn assert_index_agrees_with_data(path: &std::path::Path) {
    let db = sled::Config::new().path(path).flush_every_ms(None).open().unwrap();
    let (mut from_data, mut from_index) = (HashSet::new(), HashSet::new());
    for item in db.iter() {
        let (physical, value) = item.unwrap();
        match physical.split_first().unwrap() {
            (b'd', text) => {
                let key = kv_core::Key::parse_stored(std::str::from_utf8(text).unwrap()).unwrap();
                if let Some(millis) = stored::deadline(&key, &value).unwrap().as_millis() {
                    from_data.insert((millis, text.to_vec()));
                }
            }
            (b'e', rest) => {
                let (millis, text) = rest.split_first_chunk().unwrap();
                from_index.insert((u64::from_be_bytes(*millis), text.to_vec()));
            }
            // The tree checksum, and the padding that a crash may leave.
            (b'm' | b'p', []) => {}
            _ => panic!("a stray record {physical:?}"),
        }
    }
    assert_eq!(from_data, from_index);
}

fn random() -> u64 {
    let version = Version::random();
    u64::from_be_bytes(*version.as_bytes().first_chunk().unwrap())
}

/// Returns all entries of the store.
async fn all_entries(store: &SledStore) -> Vec<(kv_core::Key, kv_core::Entry)> {
    let (mut query, mut all) = (ListQuery::default(), Vec::new());
    loop {
        let page = store.list(&query).await.unwrap();
        all.extend(page.items.into_iter().map(|item| (item.key, item.entry.unwrap())));
        match page.next {
            Some(next) => query = query.resume(next),
            None => return all,
        }
    }
}

fn deadline_of(entry: &kv_core::Entry) -> Deadline {
    Deadline::resolve(entry.expires.into(), std::time::SystemTime::UNIX_EPOCH, None)
}
