//! The disk space of a store after entries were swept, overwritten or deleted.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kv_core::{Clock, Expiry, Key, KvStore, ManualClock, SetItem, SetOptions, SystemClock, Version};
use kv_sled::SledStore;

/// An entry with a random value of 208 bytes.
fn item(name: &str, number: u32) -> SetItem {
    let value: Bytes = (0..13).flat_map(|_| Version::random().as_bytes().to_vec()).collect();
    let options = SetOptions::default().with_expiry(Expiry::After(Duration::from_secs(60)));
    SetItem::new(Key::new([name, &format!("{number:08}")]).unwrap(), value).with_options(options)
}

async fn fill(store: &SledStore, name: &str, entries: u32) {
    for start in (0..entries).step_by(1_000) {
        let items: Vec<_> = (start..(start + 1_000).min(entries)).map(|number| item(name, number)).collect();
        assert!(store.set_many(&items).await.iter().all(Result::is_ok));
    }
}

fn size(folder: &Path) -> u64 {
    let of = |entry: std::fs::DirEntry| {
        let metadata = entry.metadata().unwrap();
        if metadata.is_dir() { size(&entry.path()) } else { metadata.len() }
    };
    std::fs::read_dir(folder).unwrap().map(|entry| of(entry.unwrap())).sum()
}

/// True if the tree holds only the tree checksum: no entries, and nothing in the deadline index.
fn is_empty(path: &Path) -> bool {
    let db = sled::open(path).unwrap();
    db.iter().keys().map(Result::unwrap).eq(["m"])
}

#[tokio::test]
async fn the_background_sweeper_removes_expired_entries_that_are_never_read() {
    let folder = tempfile::tempdir().unwrap();
    let (path, clock) = (folder.path().join("store"), Arc::new(ManualClock::new()));
    let store = SledStore::builder().clock(Arc::clone(&clock) as Arc<dyn Clock>).open(&path).await.unwrap();
    let entries = 200_000;
    fill(&store, "expiring", entries).await;
    clock.advance(Duration::from_secs(61));
    // Write while the sweeper runs.
    for round in 0.. {
        if store.stats().swept == u64::from(entries) {
            break;
        }
        assert!(round < 1_200, "the sweeper has removed only {}", store.stats().swept);
        let _ = store.set(&Key::new(["live"]).unwrap(), "v".into(), &SetOptions::default()).await.unwrap();
        SystemClock.sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(store.sweep().await.unwrap(), 0);
    let _ = store.delete(&Key::new(["live"]).unwrap(), &kv_core::DeleteOptions::default()).await.unwrap();
    store.close().await.unwrap();
    assert!(is_empty(&path));
}

/// Each round writes 20,000 entries of 208 bytes. With their keys, headers and deadline index these are 7 MB of
/// records.
#[tokio::test]
async fn the_folder_stays_small_over_ten_rounds_of_filling_and_sweeping() {
    let folder = tempfile::tempdir().unwrap();
    let (path, clock) = (folder.path().join("store"), Arc::new(ManualClock::new()));
    let store = SledStore::builder().clock(Arc::clone(&clock) as Arc<dyn Clock>).open(&path).await.unwrap();
    let mut sizes = Vec::new();
    for round in 0..10 {
        fill(&store, &format!("round {round}"), 20_000).await;
        clock.advance(Duration::from_secs(61));
        // The background sweeper may remove some of these entries first.
        store.sweep().await.unwrap();
        sizes.push(size(&path) >> 20);
    }
    println!("megabytes after each round: {sizes:?}");
    store.close().await.unwrap();
    assert!(is_empty(&path));
    let max = sizes.iter().max().unwrap();
    assert!(*max < MAX_MEGABYTES, "the folder has grown to {max} MB: {sizes:?}");
}

/// The maximum size of the folder.
const MAX_MEGABYTES: u64 = 64;

async fn set_large(store: &SledStore, number: u32, bytes: usize) {
    let mut value = Version::random().as_bytes().to_vec();
    value.resize(bytes, 7);
    let _ = store.set(&large(number), value.into(), &SetOptions::default()).await.unwrap();
}

fn large(number: u32) -> Key {
    Key::new(["large", &number.to_string()]).unwrap()
}

/// 20 keys with values of 300 kB are overwritten 20 times: 6 MB of live values, and 120 MB of writes.
#[tokio::test]
async fn a_store_of_only_large_values_takes_bounded_space_when_the_values_are_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let store = SledStore::open(&path).await.unwrap();
    let mut sizes = Vec::new();
    for _ in 0..20 {
        for number in 0..20 {
            set_large(&store, number, 300_000).await;
        }
        sizes.push(size(&path) >> 20);
    }
    println!("megabytes after each round: {sizes:?}");
    store.close().await.unwrap();
    assert!(kv_sled::verify(&path).unwrap().is_whole);
    let max = sizes.iter().max().unwrap();
    assert!(*max < MAX_MEGABYTES, "the folder has grown to {max} MB: {sizes:?}");
}

/// 30 keys with values of 700 kB take 21 MB.
#[tokio::test]
async fn deleted_large_values_take_no_space_after_closing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let store = SledStore::open(&path).await.unwrap();
    for number in 0..30 {
        set_large(&store, number, 700_000).await;
    }
    let written = size(&path) >> 20;
    for number in 0..30 {
        let _ = store.delete(&large(number), &kv_core::DeleteOptions::default()).await.unwrap();
    }
    store.close().await.unwrap();
    let closed = size(&path) >> 20;
    SledStore::open(&path).await.unwrap().close().await.unwrap();
    let opened = size(&path) >> 20;
    println!("megabytes: {written} written, {closed} closed, {opened} opened again");
    assert!(is_empty(&path));
    assert!(closed < 16 && opened < 16, "{closed} MB, then {opened} MB");
}

/// Pages of these keys are larger than 128 KiB, and sled leaves the files of their old versions. Of 5.6 MB of keys, about
/// 5 MB are in pages that are in use. Without the removal, 60 MB remain.
#[tokio::test]
async fn opening_removes_the_files_that_keys_with_a_long_common_prefix_have_left() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let store = SledStore::open(&path).await.unwrap();
    let (prefix, entries) = ("p".repeat(1_400), 4_000);
    for start in (0..entries).step_by(500) {
        let key = |number: u32| Key::new([prefix.as_str(), &number.to_string()]).unwrap();
        let items: Vec<_> = (start..start + 500).map(|number| SetItem::new(key(number), "value")).collect();
        assert!(store.set_many(&items).await.iter().all(Result::is_ok));
    }
    store.close().await.unwrap();
    let closed = size(&path.join("blobs"));
    let store = SledStore::open(&path).await.unwrap();
    let opened = size(&path.join("blobs"));
    println!("bytes in files of their own: {closed} closed, {opened} opened again");
    assert!(opened < 8 << 20, "{opened} bytes remain of {closed}");
    let page = store.list(&kv_core::ListQuery::default().with_keys_only()).await.unwrap();
    assert_eq!((page.items.len(), page.next), (4_000, None));
    store.close().await.unwrap();
    assert!(kv_sled::verify(&path).unwrap().is_whole);
}
