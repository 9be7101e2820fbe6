//! Many handles on one file in one process: each gets its turn to write.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kv_core::{Clock, IncrementOptions, Key, KvStore, SetOptions, SystemClock};
use kv_sqlite::SqliteStore;

const HANDLES: usize = 8;
const BUSY: Duration = Duration::from_secs(4);

/// What one writer has done: how many writes, and how long the longest took.
#[derive(Debug, Clone, Copy, Default)]
struct Done {
    writes: u64,
    longest: Duration,
}

async fn open(path: &Path, handle: usize) -> SqliteStore {
    // Handles on the same table and on others compete for the same lock.
    SqliteStore::builder().path(path).table(format!("t{}", handle / 2)).open().await.unwrap()
}

/// Writes without a pause until it is told to stop. A write that fails fails the test.
async fn write(store: SqliteStore, handle: usize, task: usize, is_over: Arc<AtomicBool>) -> Done {
    let (key, mut done) = (Key::new([format!("{handle}"), format!("{task}")]).unwrap(), Done::default());
    while !is_over.load(Ordering::Relaxed) {
        let started = SystemClock.now();
        if done.writes.is_multiple_of(2) {
            assert!(store.set(&key, vec![7; 300].into(), &SetOptions::default()).await.unwrap().is_stored());
        } else {
            let count = Key::new(["count"]).unwrap();
            store.increment(&count, 1, &IncrementOptions::default()).await.unwrap();
        }
        done.longest = done.longest.max(SystemClock.now().duration_since(started).unwrap());
        done.writes += 1;
    }
    done
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn busy_handles_on_one_file_take_turns() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.sqlite");
    let is_over = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for handle in 0..HANDLES {
        let store = open(&path, handle).await;
        // Every other handle has many writers, which may not shut out the handles with one.
        for task in 0..[1, 16][handle % 2] {
            writers.push((handle, tokio::spawn(write(store.clone(), handle, task, Arc::clone(&is_over)))));
        }
    }
    SystemClock.sleep(BUSY / 2).await;
    // One that is opened among them is not shut out either.
    let started = SystemClock.now();
    let late = SqliteStore::builder().path(&path).table("late").open().await.unwrap();
    let opening = SystemClock.now().duration_since(started).unwrap();
    writers.push((HANDLES, tokio::spawn(write(late, HANDLES, 0, Arc::clone(&is_over)))));
    SystemClock.sleep(BUSY / 2).await;
    is_over.store(true, Ordering::Relaxed);

    let mut single = Vec::new();
    let mut longest = Duration::ZERO;
    for (handle, writer) in writers {
        let done = writer.await.unwrap();
        longest = longest.max(done.longest);
        if handle % 2 == 0 && handle < HANDLES {
            single.push(done.writes);
        }
    }
    eprintln!("writes of the handles with one writer {single:?}, longest write {longest:?}, opening {opening:?}");
    let (least, most) = (single.iter().min().unwrap(), single.iter().max().unwrap());
    // In turn each handle commits as often as any other.
    assert!(*least > 0 && *most <= least * 2, "{single:?}");
    assert!(longest < BUSY / 4, "a write took {longest:?}");
    assert!(opening < BUSY / 2, "opening took {opening:?}");
}
