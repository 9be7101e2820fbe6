//! Opening a store: locked folders, foreign files, newer layout versions, missing permissions, and too few file
//! descriptors.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use kv_core::{ErrorKind, Key, KvStore, SetOptions};
use kv_sled::{SledCheck, SledStore};

use crate::child;
use crate::disk::Mount;

/// The timeout of a child process. It includes the start of the process on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);

fn key() -> Key {
    Key::new(["k"]).unwrap()
}

#[tokio::test]
async fn a_store_cannot_be_opened_twice_in_one_process_and_the_first_handle_stays_usable() {
    let folder = tempfile::tempdir().unwrap();
    let first = SledStore::open(folder.path().join("store")).await.unwrap();
    let error = SledStore::open(folder.path().join("store")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.message().contains("open already"), "{error}");
    let _ = first.set(&key(), "v".into(), &SetOptions::default()).await.unwrap();
    first.close().await.unwrap();
    let again = SledStore::open(folder.path().join("store")).await.unwrap();
    assert_eq!(again.get(&key()).await.unwrap().unwrap().value, "v");
}

#[tokio::test]
async fn a_store_that_another_process_has_open_cannot_be_opened_until_that_process_ends() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let (response, holder) = child::start(&path, "hold", "exec \"$0\" \"$@\"", LIMIT);
    assert_eq!(response.as_deref(), Some("holding"));
    let error = SledStore::open(&path).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.message().contains("open already"), "{error}");
    drop(holder);
    SledStore::open(&path).await.unwrap().close().await.unwrap();
}

#[tokio::test]
async fn a_store_that_was_just_closed_or_dropped_opens_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    for round in 0_u32..20 {
        let store = SledStore::open(&path).await.unwrap();
        let _ = store.set(&key(), round.to_string().into(), &SetOptions::default()).await.unwrap();
        if round.is_multiple_of(2) {
            store.close().await.unwrap();
            // After `close`, even `sled::open`, which does not retry, can lock the files.
            drop(sled::open(&path).unwrap());
        }
    }
}

#[tokio::test]
async fn a_store_that_opens_unchecked_has_all_its_entries() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    // In the first round, no tree checksum is stored yet.
    for round in 0_u32..3 {
        let store = SledStore::builder().check(SledCheck::Nothing).open(&path).await.unwrap();
        let entry = store.get(&key()).await.unwrap();
        assert_eq!(entry.map(|entry| entry.value), round.checked_sub(1).map(|last| last.to_string().into()));
        let _ = store.set(&key(), round.to_string().into(), &SetOptions::default()).await.unwrap();
        store.close().await.unwrap();
    }
    // The rounds without a check have kept the tree checksum correct. Otherwise, `open` would fail here.
    SledStore::open(&path).await.unwrap().close().await.unwrap();
}

#[tokio::test]
async fn the_path_of_a_file_is_refused_and_the_file_is_not_changed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("precious");
    fs::write(&path, "content").unwrap();
    for path in [path.clone(), path.join("below")] {
        let error = SledStore::open(&path).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error:?}");
    }
    assert_eq!(fs::read(&path).unwrap(), b"content");
}

#[tokio::test]
async fn a_foreign_sled_database_is_refused_and_not_changed() {
    let folder = tempfile::tempdir().unwrap();
    let other = sled::open(folder.path()).unwrap();
    other.insert("theirs", "content").unwrap();
    drop(other);
    let error = SledStore::open(folder.path()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.message().contains("not a store of anykv"), "{error}");
    let other = sled::open(folder.path()).unwrap();
    assert_eq!(other.get("theirs").unwrap().unwrap(), "content");
    assert_eq!(other.len(), 1);
}

#[tokio::test]
async fn a_newer_layout_version_is_refused_and_not_changed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    SledStore::open(&path).await.unwrap().close().await.unwrap();
    let checksum = |layout: Option<u8>| {
        let db = sled::open(&path).unwrap();
        let mut checksum = db.get("m").unwrap().unwrap().to_vec();
        if let Some(layout) = layout {
            checksum[5] = layout;
            db.insert("m", checksum.clone()).unwrap();
        }
        db.flush().unwrap();
        checksum
    };
    let newer = { checksum(Some(9)) };
    let error = SledStore::open(&path).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.message().contains("layout 9"), "{error}");
    assert_eq!(checksum(None), newer);
}

#[tokio::test]
async fn a_folder_without_write_permission_is_denied() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mount) = Mount::tmpfs("16m") else {
        // A user who may not mount is not root, so the permissions of the folder apply to this user.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o555)).unwrap();
        let error = SledStore::open(folder.path().join("store")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
        return;
    };
    let path = mount.path().join("store");
    let store = SledStore::builder().min_free_bytes(0).open(&path).await.unwrap();
    let _ = store.set(&key(), "v".into(), &SetOptions::default()).await.unwrap();
    store.close().await.unwrap();
    mount.remount("ro");
    for path in [path.clone(), mount.path().join("new")] {
        let error = SledStore::open(&path).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
    }
    mount.remount("rw");
    let store = SledStore::builder().min_free_bytes(0).open(&path).await.unwrap();
    assert_eq!(store.get(&key()).await.unwrap().unwrap().value, "v");
}

#[test]
fn with_too_few_file_descriptors_no_call_hangs() {
    let (mut opened, mut failed_writes) = (0, 0);
    for limit in 4..24 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let shell = format!("ulimit -n {limit}; exec \"$0\" \"$@\"");
        let (response, child) = child::start(&path, "descriptors", &shell, LIMIT);
        drop(child);
        let response = response.unwrap_or_else(|| panic!("the store hangs with {limit} file descriptors"));
        match response.as_str() {
            // Too few descriptors for the test program itself.
            "ended without a response" if opened == 0 => {}
            // Either too few descriptors to open the store, or enough for all writes. The latter occurs if sled closes
            // a file after the child process has used up the other descriptors.
            "error Capacity" | "opened stored stored stored" => {}
            // The write of the large value needs a descriptor for a separate file. This write fails as `Indeterminate`.
            "opened stored Indeterminate Unavailable" | "opened stored Indeterminate Capacity" => failed_writes += 1,
            other => panic!("with {limit} file descriptors: {other}"),
        }
        // The store opens again and has the acknowledged writes.
        if response.starts_with("opened") {
            opened += 1;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            runtime.block_on(async {
                let store = SledStore::open(&path).await.unwrap();
                assert!(store.contains(&Key::new(["10"]).unwrap()).await.unwrap());
                if response.ends_with("stored stored") {
                    assert!(store.contains(&Key::new(["300000"]).unwrap()).await.unwrap());
                }
            });
        }
    }
    assert!(opened > 0, "the store opened with none of the limits");
    assert!(failed_writes > 0, "no write failed because of too few file descriptors");
}

#[tokio::test]
async fn a_path_that_is_not_a_folder_is_invalid_and_the_error_names_the_file_type() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("file"), "").unwrap();
    assert!(std::process::Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
    let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    std::os::unix::fs::symlink(at("nothing"), at("dangling")).unwrap();
    std::os::unix::fs::symlink(at("loop"), at("loop")).unwrap();
    for name in ["with a pipe", "with a folder", "with a dangling link"] {
        fs::create_dir(at(name)).unwrap();
        fs::write(at(name).join("conf"), "").unwrap();
    }
    fs::rename(at("pipe"), at("with a pipe/db")).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
    fs::create_dir(at("with a folder/db")).unwrap();
    std::os::unix::fs::symlink(at("nothing"), at("with a dangling link/db")).unwrap();
    for (path, kind) in [
        (at("file"), "a file"),
        (at("pipe"), "a pipe"),
        (at("socket"), "a socket"),
        ("/dev/null".into(), "a device"),
        (at("dangling"), "a link to nothing"),
        (at("loop"), "symbolic links"),
        (at("with a pipe"), "`db` in the folder is a pipe"),
        (at("with a folder"), "`db` in the folder is a folder"),
        (at("with a dangling link"), "`db` in the folder is a link to nothing"),
    ] {
        for error in [SledStore::open(&path).await.unwrap_err(), kv_sled::verify(&path).unwrap_err()] {
            assert_eq!(error.kind(), ErrorKind::Invalid, "{kind}: {error:?}");
            assert!(!error.is_retryable() && error.message().contains(kind), "{kind}: {error}");
        }
    }
    assert!(!at("nothing").exists());
}

#[test]
fn verifying_a_folder_without_a_store_is_invalid() {
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path().join("missing"), folder.path().to_owned()] {
        let error = kv_sled::verify(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error:?}");
    }
    assert!(!folder.path().join("missing").exists());
}

#[tokio::test]
async fn a_store_works_with_a_clock_before_1970() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let before = std::time::SystemTime::UNIX_EPOCH - Duration::from_secs(86_400);
    let clock = std::sync::Arc::new(kv_core::ManualClock::at(before));
    let store = SledStore::builder().clock(clock).open(&path).await.unwrap();
    let _ = store.set(&key(), "v".into(), &SetOptions::default()).await.unwrap();
    assert_eq!(store.get(&key()).await.unwrap().unwrap().value, "v");
    assert_eq!(store.sweep().await.unwrap(), 0);
    store.close().await.unwrap();
}
