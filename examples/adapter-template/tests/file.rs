//! Tests of the file format.

use std::fs;
use std::sync::Arc;

use adapter_template::JournalStore;
use kv_core::{ErrorKind, Key, KvStore, Namespace, Namespaced, SetOptions};

fn key(name: &str) -> Key {
    Key::new([name]).unwrap()
}

/// Writes a file with three entries and closes it.
async fn write_entries(path: &std::path::Path) {
    let store: Arc<dyn KvStore> = Arc::new(JournalStore::open(path).await.unwrap());
    for name in ["a", "b", "c"] {
        assert!(store.set(&key(name), "value".into(), &SetOptions::default()).await.unwrap().is_stored());
    }
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_file_that_ends_in_the_middle_of_a_record_has_all_records_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    write_entries(&path).await;
    let whole = fs::read(&path).unwrap();
    for cut in 0..whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        let store = JournalStore::open(&path).await.unwrap();
        let mut has_ended = false;
        for name in ["a", "b", "c"] {
            let found = store.get(&key(name)).await.unwrap();
            assert!(!has_ended || found.is_none(), "cut at {cut}: {name} is present and an earlier entry is missing");
            has_ended = found.is_none();
        }
        assert!(store.set(&key("d"), "new".into(), &SetOptions::default()).await.unwrap().is_stored());
        store.close().await.unwrap();
        let store = JournalStore::open(&path).await.unwrap();
        assert_eq!(store.get(&key("d")).await.unwrap().unwrap().value, "new");
    }
}

#[tokio::test]
async fn no_flipped_bit_returns_a_wrong_value() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    write_entries(&path).await;
    let whole = fs::read(&path).unwrap();
    for bit in 0..whole.len() * 8 {
        let mut damaged = whole.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, &damaged).unwrap();
        match JournalStore::open(&path).await {
            Ok(store) => {
                for name in ["a", "b", "c"] {
                    let found = store.get(&key(name)).await.unwrap();
                    assert!(found.is_none_or(|entry| entry.value == "value"), "bit {bit}");
                }
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::Corrupt, "bit {bit}: {error}"),
        }
    }
}

#[tokio::test]
async fn a_second_store_on_the_file_is_unavailable() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let first = JournalStore::open(&path).await.unwrap();
    let error = JournalStore::open(&path).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("another store has the file open"), "{error}");
    drop(first);
    JournalStore::open(&path).await.unwrap();
}

#[tokio::test]
async fn a_file_with_the_longest_key_of_the_longest_namespace_opens_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let namespace = Namespace::new(["n".repeat(Namespace::MAX_BYTES)]).unwrap();
    // The stored keys have 2,400, 2,399 and 2,049 bytes.
    let keys = [Key::MAX_BYTES, Key::MAX_BYTES - 1, Key::MAX_BYTES - Namespace::MAX_BYTES]
        .map(|bytes| key(&"k".repeat(bytes)));
    let store = Namespaced::new(JournalStore::open(&path).await.unwrap(), namespace.clone());
    for key in &keys {
        assert!(store.set(key, "value".into(), &SetOptions::default()).await.unwrap().is_stored());
    }
    store.close().await.unwrap();
    let store = Namespaced::new(JournalStore::open(&path).await.unwrap(), namespace);
    for key in &keys {
        assert_eq!(store.get(key).await.unwrap().unwrap().value, "value");
    }
}

#[tokio::test]
async fn a_key_that_two_namespaces_make_too_long_is_refused_and_the_file_opens_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let namespace = || Namespace::new(["n".repeat(200)]).unwrap();
    let outer = Namespaced::new(JournalStore::open(&path).await.unwrap(), namespace());
    let store = Namespaced::new(outer, namespace());
    let error = store.set(&key(&"k".repeat(2_000)), "value".into(), &SetOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.message().contains("2402") && error.message().contains("2400"), "{error}");
    assert!(store.set(&key("short"), "value".into(), &SetOptions::default()).await.unwrap().is_stored());
    store.close().await.unwrap();
    assert!(JournalStore::open(&path).await.is_ok());
}
