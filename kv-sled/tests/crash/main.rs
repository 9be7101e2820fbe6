//! A process that runs random histories is killed at any moment, again and again on the same files; what is there then is
//! what a model of the acknowledged steps holds.
//!
//! `CRASH_ROUNDS` says how many kills there are, 30 unless said; `CRASH_SEED` repeats a history.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod child;
mod injected;
mod model;

use std::collections::HashSet;
use std::time::Duration;

use kv_core::{Clock, Deadline, KvStore, ListQuery, SystemClock, Version, stored};
use kv_sled::{SledDurability, SledStore};

use crate::child::Child;
use crate::model::Model;

/// Writes until it is killed, in a process of its own; without its folder in the environment it is no child and ends.
#[test]
fn child_that_writes() {
    child::main();
}

#[tokio::test]
async fn nothing_acknowledged_is_lost() {
    kill_again_and_again(SledDurability::Process, rounds()).await;
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_with_an_fsync() {
    kill_again_and_again(SledDurability::Power, rounds().div_ceil(5)).await;
}

#[tokio::test]
async fn an_interval_loses_at_most_itself() {
    kill_again_and_again(SledDurability::Interval(Duration::from_millis(60)), rounds().div_ceil(5)).await;
}

fn rounds() -> usize {
    std::env::var("CRASH_ROUNDS").map_or(30, |rounds| rounds.parse().expect("a number of rounds"))
}

async fn kill_again_and_again(durability: SledDurability, rounds: usize) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let seed = std::env::var("CRASH_SEED").map_or_else(|_| random(), |seed| seed.parse().expect("a seed"));
    println!("CRASH_SEED={seed}");
    let (mut model, mut versions, mut acknowledged, mut lost) = (Model::new(seed), HashSet::new(), 0, 0);
    for round in 0..rounds {
        let child = Child::start(&path, durability, seed, round);
        SystemClock.sleep(Duration::from_millis(5 + random() % 195)).await;
        let (reports, killed) = child.kill();
        for version in reports.iter().filter_map(|report| report.version) {
            assert!(versions.insert(version), "round {round}: a version came again");
        }
        acknowledged += reports.iter().filter(|report| report.is_acknowledged).count();

        // A store that a crash has damaged does not open: opening compares everything with the ledger.
        let store = SledStore::open(&path).await.unwrap_or_else(|error| panic!("round {round}: {error:?}"));
        let interval = match durability {
            SledDurability::Interval(interval) => interval + killed.stalled,
            _ => Duration::ZERO,
        };
        lost += model.check(&store, &reports, killed.at, interval, round).await;
        store.close().await.unwrap();
        index_agrees_with_data(&path);
    }
    println!("{durability}: {rounds} kills, {acknowledged} acknowledged writes, {lost} lost within the interval");
    assert!(acknowledged > rounds, "the children did not write: {acknowledged}");
}

/// Looks at the tree itself: each deadline is in the index exactly once, and nothing else is.
fn index_agrees_with_data(path: &std::path::Path) {
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
            (b'm', []) => {}
            _ => panic!("a stray record {physical:?}"),
        }
    }
    assert_eq!(from_data, from_index);
}

fn random() -> u64 {
    let version = Version::random();
    u64::from_be_bytes(*version.as_bytes().first_chunk().unwrap())
}

/// Everything that is there, by key.
async fn everything(store: &SledStore) -> Vec<(kv_core::Key, kv_core::Entry)> {
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
