//! Full disks: small file systems in memory, where the test may mount them.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use kv_core::{Clock, ErrorKind, Key, KvStore, SetOptions, SystemClock};
use kv_sled::SledStore;

/// A file system in memory, unmounted when it is dropped.
pub(crate) struct Mount {
    folder: tempfile::TempDir,
}

impl Mount {
    /// Mounts one of this size, or says that it is not allowed to.
    pub(crate) fn tmpfs(size: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(folder.path())
            .output();
        if mount.is_ok_and(|output| output.status.success()) {
            return Some(Self { folder });
        }
        eprintln!("NOT RUN: no right to mount a small file system");
        None
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn remount(&self, options: &str) {
        let options = format!("remount,{options}");
        assert!(Command::new("mount").args(["-o", &options]).arg(self.path()).status().unwrap().success());
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // What hangs inside sled keeps its files open.
        let _ = Command::new("umount").arg("-l").arg(self.folder.path()).status();
    }
}

fn key(number: u32) -> Key {
    Key::new(["k", &number.to_string()]).unwrap()
}

/// Sixty kilobytes that no other write has.
fn value(number: u32) -> bytes::Bytes {
    let mut value = vec![0; 60_000];
    value[..4].copy_from_slice(&number.to_be_bytes());
    value.into()
}

#[tokio::test]
async fn at_the_floor_writes_are_refused_reads_go_on_and_freed_space_ends_it() {
    let Some(mount) = Mount::tmpfs("32m") else { return };
    std::fs::write(mount.path().join("other"), vec![1; 12 << 20]).unwrap();
    let store = SledStore::builder().min_free_bytes(8 << 20).open(mount.path().join("store")).await.unwrap();
    let mut stored = 0;
    let error = loop {
        match store.set(&key(stored), value(stored), &SetOptions::default()).await {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored < 10_000, "the floor is not seen");
    };
    assert_eq!(error.kind(), ErrorKind::Capacity, "{error:?}");
    assert!(error.is_retryable());
    assert_eq!(store.get(&key(stored)).await.unwrap(), None);
    for number in 0..stored {
        assert_eq!(store.get(&key(number)).await.unwrap().unwrap().value, value(number));
    }

    std::fs::remove_file(mount.path().join("other")).unwrap();
    let _ = store.set(&key(stored), value(stored), &SetOptions::default()).await.unwrap();
    assert_eq!(store.get(&key(stored)).await.unwrap().unwrap().value, value(stored));
    store.close().await.unwrap();
}

/// How large values are decides where sled meets the end of the disk: in its log, or in files of their own.
async fn fill_up(size: usize) -> bool {
    let Some(mount) = Mount::tmpfs("8m") else { return true };
    let path = mount.path().join("store");
    let timeout = Duration::from_secs(4);
    let value = |number: u32| value(number).slice(..size);
    let store = SledStore::builder().min_free_bytes(0).operation_timeout(timeout).open(&path).await.unwrap();
    let mut stored = 0;
    let error = loop {
        let start = SystemClock.now();
        let outcome = store.set(&key(stored), value(stored), &SetOptions::default()).await;
        let took = SystemClock.now().duration_since(start).unwrap_or_default();
        assert!(took < timeout * 2, "a write took {took:?}");
        match outcome {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
    };
    assert!(stored > 10, "only {stored} writes found room");
    match error.kind() {
        ErrorKind::Indeterminate { version } => assert!(version.is_some()),
        kind => assert_eq!(kind, ErrorKind::Capacity),
    }

    let later = store.set(&key(0), value(1), &SetOptions::default()).await.unwrap_err();
    assert_eq!(later.kind(), ErrorKind::Capacity, "{later:?}");
    let read = store.get(&key(0)).await.unwrap_err();
    assert_eq!(read.kind(), ErrorKind::Unavailable, "{read:?}");
    assert!(read.message().contains("poisoned"), "{read}");
    let closed = tokio::time::timeout(timeout * 3, store.close()).await.expect("closing ends");
    println!("values of {size} bytes: {stored} stored, then {error}; closed: {closed:?}");

    mount.remount("size=64m");
    // Where sled keeps its files, they are free when this process has ended; a copy shows what is in them.
    let path = if closed.is_ok() {
        path
    } else {
        let copy = mount.path().join("copy");
        assert!(Command::new("cp").arg("-r").args([&path, &copy]).status().unwrap().success());
        copy
    };
    let again = SledStore::builder().min_free_bytes(0).open(&path).await.unwrap();
    for number in 0..stored {
        assert_eq!(again.get(&key(number)).await.unwrap().unwrap().value, value(number), "{number}");
    }
    let _ = again.set(&key(0), value(1), &SetOptions::default()).await.unwrap();
    again.close().await.unwrap();
    closed.is_ok()
}

#[tokio::test]
async fn without_a_floor_a_full_disk_poisons_the_store_until_space_is_freed_and_it_is_opened_again() {
    assert!(fill_up(3_000).await, "sled did not give its files back");
}

#[tokio::test]
async fn without_a_floor_large_values_on_a_full_disk_poison_the_store_and_no_other() {
    fill_up(60_000).await;
    let folder = tempfile::tempdir().unwrap();
    let other = SledStore::open(folder.path().join("other")).await.unwrap();
    let _ = other.set(&key(0), value(0), &SetOptions::default()).await.unwrap();
    other.close().await.unwrap();
}
