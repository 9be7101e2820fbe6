//! The permissions of the files of new and older stores.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use kv_core::{Key, KvStore, SetOptions};
use kv_sled::SledStore;

use crate::damage::files;

async fn open_and_close(path: &Path) {
    let store = SledStore::open(path).await.unwrap();
    let key = Key::new(["large"]).unwrap();
    let _ = store.set(&key, vec![7; 300_000].into(), &SetOptions::default()).await.unwrap();
    store.close().await.unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[tokio::test]
async fn only_the_owner_can_read_the_files_of_a_new_store() {
    let folder = tempfile::tempdir().unwrap();
    let (missing, existing) = (folder.path().join("parent/missing"), folder.path().join("existing"));
    fs::create_dir(&existing).unwrap();
    set_mode(&existing, 0o755);
    for path in [&missing, &existing] {
        // The second opening writes a snapshot.
        for _ in 0..2 {
            open_and_close(path).await;
        }
        assert_eq!(mode(&path.join("blobs")), 0o700);
        let names = files(path);
        assert!(names.len() > 4, "{names:?}");
        for file in names.iter().filter(|file| file.parent() == Some(path)) {
            assert_eq!(mode(file), 0o600, "{}", file.display());
        }
    }
    assert_eq!(mode(&missing), 0o700);
    assert_eq!(mode(&existing), 0o755);
}

#[tokio::test]
async fn an_older_store_keeps_the_permissions_of_its_log() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    open_and_close(&path).await;
    set_mode(&path, 0o750);
    set_mode(&path.join("db"), 0o640);
    set_mode(&path.join("blobs"), 0o750);
    open_and_close(&path).await;
    assert_eq!((mode(&path), mode(&path.join("db")), mode(&path.join("blobs"))), (0o750, 0o640, 0o750));
}
