//! Files that are removed, moved, replaced or emptied while a store has them open.

use std::fs;
use std::path::Path;
use std::time::Duration;

use kv_core::{ErrorKind, Key, KvStore, SetOptions};
use kv_sled::{SledDurability, SledStore};

fn key(name: &str) -> Key {
    Key::new([name]).unwrap()
}

/// Replaces a file by a copy of itself.
fn replace(path: &Path) {
    fs::copy(path, path.with_extension("copy")).unwrap();
    fs::rename(path.with_extension("copy"), path).unwrap();
}

/// A word of the expected error text, and the damage to the folder of a store.
type Case = (&'static str, fn(&Path));

const DAMAGES: &[Case] = &[
    ("removed", |path| fs::remove_file(path.join("db")).unwrap()),
    ("truncated", |path| fs::File::options().write(true).open(path.join("db")).unwrap().set_len(0).unwrap()),
    ("replaced", |path| replace(&path.join("db"))),
    ("removed", |path| fs::remove_dir_all(path).unwrap()),
    ("removed", |path| fs::rename(path, path.with_extension("moved")).unwrap()),
    ("blobs", |path| fs::remove_dir_all(path.join("blobs")).unwrap()),
];

#[tokio::test]
async fn a_write_after_the_files_were_removed_is_refused_and_poisons_the_store() {
    for (cause, damage) in DAMAGES {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let store = SledStore::open(&path).await.unwrap();
        let _ = store.set(&key("before"), "v".into(), &SetOptions::default()).await.unwrap();
        damage(&path);
        for name in ["next", "later"] {
            let error = store.set(&key(name), "v".into(), &SetOptions::default()).await.unwrap_err();
            let is_refused = error.kind() == ErrorKind::Unavailable || (name == "next" && error.maybe_applied());
            assert!(is_refused, "{cause}: {error:?}");
            assert!(error.message().contains("poisoned") && error.message().contains(cause), "{cause}: {error}");
        }
        store.close().await.unwrap();
    }
}

#[tokio::test]
async fn with_write_behind_a_flush_after_the_files_were_removed_fails() {
    for (cause, damage) in DAMAGES {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let durability = SledDurability::Interval(Duration::from_secs(3_600));
        let store = SledStore::builder().durability(durability).open(&path).await.unwrap();
        let _ = store.set(&key("before"), "v".into(), &SetOptions::default()).await.unwrap();
        store.flush().await.unwrap();
        damage(&path);
        // With write-behind, this write is acknowledged in memory, unless the worker has already detected the damage.
        let _ = store.set(&key("next"), "v".into(), &SetOptions::default()).await;
        let error = store.flush().await.unwrap_err();
        assert!(error.message().contains(cause), "{cause}: {error}");
        assert!(store.set(&key("later"), "v".into(), &SetOptions::default()).await.is_err(), "{cause}");
        store.close().await.unwrap();
    }
}
