//! The size of the files on the disk.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kv_core::{
    Clock, DeleteOptions, ErrorKind, Expiry, Key, KeyPrefix, KvStore, ManualClock, SetItem, SetOptions, SystemClock,
    Transaction,
};
use kv_sqlite::{SqliteStore, SyncMode, rusqlite};

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

/// The maximum size of the log in bytes: the size to which it is truncated, and the size of the largest batch.
const MAX_LOG: u64 = (16 << 20) + (16 << 20);

fn size(path: &Path) -> u64 {
    path.metadata().unwrap().len()
}

#[tokio::test]
async fn the_file_stays_small_when_entries_are_written_expire_and_are_swept_ten_times() {
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
    assert!(logs.iter().all(|size| *size < MAX_LOG), "{logs:?}");
    store.close().await.unwrap();
    let rest = path.metadata().unwrap().len();
    assert!(rest < 2 << 20, "an empty store has {rest} bytes");
}

/// T-6: without a read, list or sweep call, the sweeper removes expired entries and their index entries.
#[tokio::test]
async fn entries_that_are_never_read_leave_all_tables_empty_after_expiry() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.sqlite");
    let clock = ManualClock::new();
    let builder = SqliteStore::builder().path(&path).clock(Arc::new(clock.clone()));
    let store = builder.sync(SyncMode::LosesOnPowerCut).open().await.unwrap();
    let options = SetOptions::default().with_expiry(Expiry::After(TTL));
    for part in 0..20 {
        let items: Vec<_> = (0..10_000)
            .map(|number| {
                let key = Key::new(["session", &format!("{:x}", number * 7_919 + part)]).unwrap();
                // Every 500th value is in the table of large values.
                let length = if number % 500 == 0 { 2_000 } else { 20 };
                SetItem::new(key, vec![7; length]).with_options(options.clone())
            })
            .collect();
        assert!(store.set_many(&items).await.iter().all(Result::is_ok));
    }
    let connection = rusqlite::Connection::open(&path).unwrap();
    let count = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    let tables = || {
        [
            count("SELECT count(*) FROM kv"),
            count("SELECT count(*) FROM kv INDEXED BY \"kv deadline\" WHERE deadline IS NOT NULL"),
            count("SELECT count(*) FROM \"kv beside\""),
        ]
    };
    assert_eq!(tables(), [200_000, 200_000, 400]);
    clock.advance(TTL);
    let mut rounds = 0;
    // After the sweeper has removed the entries, it returns the free pages.
    while tables() != [0, 0, 0] || count("PRAGMA page_count") > 512 {
        // The sweeper waits for the store's clock, so each step of the clock starts a sweep.
        clock.advance(Duration::from_secs(1));
        SystemClock.sleep(Duration::from_millis(20)).await;
        rounds += 1;
        assert!(rounds < 3_000, "{:?}", tables());
    }
    store.close().await.unwrap();
    let rest = path.metadata().unwrap().len();
    assert!(rest < 2 << 20, "an empty store has {rest} bytes");
}

#[tokio::test]
async fn a_cleared_store_returns_its_space() {
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
    assert!(rest < 2 << 20, "an empty store has {rest} bytes");
}

#[tokio::test]
async fn a_write_that_would_use_the_reserve_is_capacity_and_a_delete_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.sqlite");
    let (k, new) = (Key::new(["k"]).unwrap(), Key::new(["new"]).unwrap());
    let store = SqliteStore::open(&path).await.unwrap();
    assert!(store.set(&k, "1".into(), &SetOptions::default()).await.unwrap().is_stored());
    store.close().await.unwrap();
    let store = SqliteStore::builder().path(&path).min_free_bytes(u64::MAX).open().await.unwrap();
    let refused = |error: kv_core::Error| assert_eq!(error.kind(), ErrorKind::Capacity, "{error:?}");
    let large = vec![7; 1 << 20];
    refused(store.set(&new, large.clone().into(), &SetOptions::default()).await.unwrap_err());
    let batch = Transaction::new().delete(k.clone()).set(new.clone(), large, Expiry::Never);
    refused(store.commit(&batch).await.unwrap_err());
    assert_eq!(store.get(&k).await.unwrap().unwrap().value, "1");
    assert!(store.delete(&k, &DeleteOptions::default()).await.unwrap().is_deleted());
    assert_eq!(store.sweep().await.unwrap(), 0);
    assert_eq!(store.clear(&KeyPrefix::ALL).await.unwrap(), 0);
}

/// A large value is replaced in place and removed together with its row, also in a file that the first version of this
/// crate has written.
#[tokio::test]
async fn overwritten_large_values_leave_no_orphans() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.sqlite");
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/layout-1.sqlite");
    for is_from_the_first_version in [false, true] {
        if is_from_the_first_version {
            std::fs::copy(&fixture, &path).unwrap();
        }
        let store = SqliteStore::open(&path).await.unwrap();
        let before = store.verify().await.unwrap().entries;
        let beside = || {
            let connection = rusqlite::Connection::open(&path).unwrap();
            let sql = r#"SELECT count(*) FROM "kv beside" WHERE id IN (SELECT beside FROM kv WHERE key = 'k')"#;
            connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap()
        };
        let key = Key::new(["k"]).unwrap();
        // A new large value, then large values over large values, and then small and large values alternately.
        for (number, length) in [5_000, 5_000, 900, 20_000, 10, 700, 30, 1_000].into_iter().enumerate() {
            let value = vec![u8::try_from(number).unwrap(); length];
            let outcome = store.set(&key, value.clone().into(), &SetOptions::default()).await.unwrap();
            let entry = store.get(&key).await.unwrap().unwrap();
            assert_eq!((entry.value, entry.version), (value.into(), outcome.version()), "{number}");
            assert_eq!(beside(), i64::from(length > 640), "{number}");
            let verification = store.verify().await.unwrap();
            assert!(verification.is_sound() && verification.entries == before + 1, "{number}: {verification:?}");
        }
        store.close().await.unwrap();
        std::fs::remove_file(&path).unwrap();
    }
}
