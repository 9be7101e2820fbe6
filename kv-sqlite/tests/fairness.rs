//! Many handles of one process on one file: the write lock is fair.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kv_core::{Clock, IncrementOptions, Key, KvStore, SetOptions, SystemClock};
use kv_sqlite::SqliteStore;

const HANDLES: usize = 8;
const TEST_DURATION: Duration = Duration::from_secs(4);

/// The number of writes of one task, and the duration of its longest write.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    writes: u64,
    longest: Duration,
}

async fn open(path: &Path, handle: usize) -> SqliteStore {
    // Two handles share each table. All handles compete for the same lock, because the lock belongs to the file.
    SqliteStore::builder().path(path).table(format!("t{}", handle / 2)).open().await.unwrap()
}

/// Writes without a pause until `stop` is set. A failed write fails the test.
async fn write(store: SqliteStore, handle: usize, task: usize, stop: Arc<AtomicBool>) -> Tally {
    let (key, mut tally) = (Key::new([format!("{handle}"), format!("{task}")]).unwrap(), Tally::default());
    while !stop.load(Ordering::Relaxed) {
        let started = SystemClock.now();
        if tally.writes.is_multiple_of(2) {
            assert!(store.set(&key, vec![7; 300].into(), &SetOptions::default()).await.unwrap().is_stored());
        } else {
            let count = Key::new(["count"]).unwrap();
            store.increment(&count, 1, &IncrementOptions::default()).await.unwrap();
        }
        tally.longest = tally.longest.max(SystemClock.now().duration_since(started).unwrap());
        tally.writes += 1;
    }
    tally
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn busy_handles_on_one_file_write_equally_often() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.sqlite");
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for handle in 0..HANDLES {
        let store = open(&path, handle).await;
        // Every second handle has 16 tasks, which must not starve the handles with one task.
        for task in 0..[1, 16][handle % 2] {
            writers.push((handle, tokio::spawn(write(store.clone(), handle, task, Arc::clone(&stop)))));
        }
    }
    SystemClock.sleep(TEST_DURATION / 2).await;
    // A handle that is opened while the others write must not starve either.
    let started = SystemClock.now();
    let late = SqliteStore::builder().path(&path).table("late").open().await.unwrap();
    let opening = SystemClock.now().duration_since(started).unwrap();
    writers.push((HANDLES, tokio::spawn(write(late, HANDLES, 0, Arc::clone(&stop)))));
    SystemClock.sleep(TEST_DURATION / 2).await;
    stop.store(true, Ordering::Relaxed);

    let mut single = Vec::new();
    let mut longest = Duration::ZERO;
    for (handle, writer) in writers {
        let tally = writer.await.unwrap();
        longest = longest.max(tally.longest);
        if handle % 2 == 0 && handle < HANDLES {
            single.push(tally.writes);
        }
    }
    eprintln!("writes of the handles with one task {single:?}, longest write {longest:?}, opening {opening:?}");
    let (least, most) = (single.iter().min().unwrap(), single.iter().max().unwrap());
    // With a fair lock each handle commits about as often as any other handle.
    assert!(*least > 0 && *most <= least * 2, "{single:?}");
    assert!(longest < TEST_DURATION / 4, "a write took {longest:?}");
    assert!(opening < TEST_DURATION / 2, "opening took {opening:?}");
}
