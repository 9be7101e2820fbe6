//! What the file takes on the disk.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kv_core::{Expiry, Key, KeyPrefix, KvStore, ManualClock, SetItem, SetOptions};
use kv_sqlite::SqliteStore;

const ENTRIES: usize = 5_000;
const TTL: Duration = Duration::from_secs(60);

fn items(round: usize) -> Vec<SetItem> {
    let options = SetOptions::default().with_expiry(Expiry::After(TTL));
    (0..ENTRIES)
        .map(|number| {
            let key = Key::new(["session", &format!("{:x}", (number * 7_919 + round) % 1_000_003)]).unwrap();
            SetItem::new(key, vec![u8::try_from(round).unwrap(); 1_000]).with_options(options.clone())
        })
        .collect()
}

/// What the log is cut back to, and what one batch may add to it.
const MOST_LOG: u64 = (16 << 20) + (16 << 20);

fn size(path: &Path) -> u64 {
    path.metadata().unwrap().len()
}

#[tokio::test]
async fn ten_rounds_of_fill_expire_and_sweep_keep_the_file_small() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.sqlite");
    let clock = ManualClock::new();
    let interval = Duration::from_secs(1_000_000);
    let builder = SqliteStore::builder().path(&path).clock(Arc::new(clock.clone())).sweep_interval(interval);
    let store = builder.open().await.unwrap();
    let payload = ENTRIES as u64 * 1_000;
    let (mut filled, mut logs) = (Vec::new(), Vec::new());
    for round in 0..10 {
        assert!(store.set_many(&items(round)).await.iter().all(Result::is_ok));
        filled.push(size(&path));
        clock.advance(TTL);
        assert_eq!(store.sweep().await.unwrap(), ENTRIES as u64);
        logs.push(size(&path.with_extension("sqlite-wal")));
    }
    eprintln!("payload {payload}, file when full {filled:?}, log {logs:?}");
    assert!(filled.iter().all(|size| *size < 2 * payload), "{filled:?}");
    assert!(logs.iter().all(|size| *size < MOST_LOG), "{logs:?}");
    store.close().await.unwrap();
    let rest = path.metadata().unwrap().len();
    assert!(rest < 2 << 20, "{rest} bytes are left of an empty store");
}

#[tokio::test]
async fn a_cleared_store_gives_its_space_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.sqlite");
    let store = SqliteStore::open(&path).await.unwrap();
    let value = kv_core::Bytes::from(vec![7; 8 << 20]);
    for number in 0..4 {
        let key = Key::new(["large", &number.to_string()]).unwrap();
        assert!(store.set(&key, value.clone(), &SetOptions::default()).await.unwrap().is_stored());
    }
    assert_eq!(store.clear(&KeyPrefix::ALL).await.unwrap(), 4);
    store.close().await.unwrap();
    let rest = path.metadata().unwrap().len();
    assert!(rest < 2 << 20, "{rest} bytes are left of an empty store");
}
