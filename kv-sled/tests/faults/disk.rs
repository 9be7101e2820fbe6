//! Full disks. The tests mount small file systems, in memory and in a file. Without permission to mount, the tests are
//! skipped.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use kv_core::{Clock, DeleteOptions, ErrorKind, Key, KeyPrefix, KvStore, SetOptions, SystemClock};
use kv_sled::{SledDurability, SledStore};

/// A small file system, unmounted when it is dropped.
pub(crate) struct Mount {
    mounted: PathBuf,
    _folder: tempfile::TempDir,
}

impl Mount {
    /// Mounts a file system in memory; `None` without permission to mount.
    pub(crate) fn tmpfs(size: &str) -> Option<Self> {
        Self::with(&["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"], tempfile::tempdir().unwrap())
    }

    /// Mounts a file system in a file. As on a disk, the file system has a journal and allocates blocks late. `None`
    /// without `mkfs.ext4` or without permission to mount.
    pub(crate) fn ext4(megabytes: u64) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("image");
        std::fs::File::create(&image).unwrap().set_len(megabytes << 20).unwrap();
        let made = Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(&image).output();
        if !made.is_ok_and(|output| output.status.success()) {
            eprintln!("NOT RUN: `mkfs.ext4` is not installed");
            return None;
        }
        Self::with(&["-o", "loop", image.to_str().unwrap()], folder)
    }

    fn with(arguments: &[&str], folder: tempfile::TempDir) -> Option<Self> {
        let mounted = folder.path().join("disk");
        std::fs::create_dir(&mounted).unwrap();
        let mount = Command::new("mount").args(arguments).arg(&mounted).output();
        if mount.is_ok_and(|output| output.status.success()) {
            return Some(Self { mounted, _folder: folder });
        }
        eprintln!("NOT RUN: no permission to mount a file system");
        None
    }

    pub(crate) fn path(&self) -> &Path {
        &self.mounted
    }

    pub(crate) fn remount(&self, options: &str) {
        let options = format!("remount,{options}");
        assert!(Command::new("mount").args(["-o", &options]).arg(self.path()).status().unwrap().success());
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Unmount lazily, because threads that hang inside sled keep files open.
        let _ = Command::new("umount").arg("-l").arg(&self.mounted).status();
    }
}

fn key(number: u32) -> Key {
    Key::new(["k", &number.to_string()]).unwrap()
}

/// A value of 60 kB, different for each number.
fn value(number: u32) -> bytes::Bytes {
    let mut value = vec![0; 60_000];
    value[..4].copy_from_slice(&number.to_be_bytes());
    value.into()
}

#[tokio::test]
async fn below_the_free_space_reserve_only_writes_are_refused_until_space_is_freed() {
    let interval = SledDurability::Interval(Duration::from_millis(200));
    for (mount, durability) in [
        (Mount::tmpfs("32m"), SledDurability::Process),
        (Mount::tmpfs("32m"), interval),
        (Mount::ext4(40), SledDurability::Process),
        (Mount::ext4(40), interval),
    ] {
        if let Some(mount) = mount {
            fill_up_to_reserve(mount, durability).await;
        }
    }
}

async fn fill_up_to_reserve(mount: Mount, durability: SledDurability) {
    std::fs::write(mount.path().join("other"), vec![1; 12 << 20]).unwrap();
    let builder = SledStore::builder().min_free_bytes(8 << 20).durability(durability);
    let store = builder.open(mount.path().join("store")).await.unwrap();
    let mut stored = 0;
    let error = loop {
        match store.set(&key(stored), value(stored), &SetOptions::default()).await {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored < 10_000, "no write was refused at the reserve");
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

/// Returns the folder of a closed store. If sled keeps the folder locked until this process ends, returns a copy of the
/// folder.
fn unlocked(path: PathBuf, mount: &Mount, is_unlocked: bool) -> PathBuf {
    if is_unlocked {
        return path;
    }
    let copy = mount.path().join("copy");
    assert!(Command::new("cp").arg("-r").args([&path, &copy]).status().unwrap().success());
    copy
}

/// Fills a disk with values of `size` bytes in a store without a reserve. The size decides which write of sled fails: a
/// write to its log, or a write to the file of a large value. Returns true if sled released its files.
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
    assert!(stored > 10, "only {stored} writes succeeded");
    match error.kind() {
        ErrorKind::Indeterminate { version } => assert!(version.is_some()),
        kind => assert_eq!(kind, ErrorKind::Capacity),
    }

    let later = store.set(&key(0), value(1), &SetOptions::default()).await.unwrap_err();
    assert_eq!(later.kind(), ErrorKind::Capacity, "{later:?}");
    let read = store.get(&key(0)).await.unwrap_err();
    assert_eq!(read.kind(), ErrorKind::Unavailable, "{read:?}");
    assert!(read.message().contains("poisoned"), "{read}");
    let closed = tokio::time::timeout(timeout * 3, store.close()).await.expect("closing hangs");
    println!("values of {size} bytes: {stored} stored, then {error}; closed: {closed:?}");

    mount.remount("size=64m");
    let path = unlocked(path, &mount, closed.is_ok());
    let again = SledStore::builder().min_free_bytes(0).open(&path).await.unwrap();
    for number in 0..stored {
        assert_eq!(again.get(&key(number)).await.unwrap().unwrap().value, value(number), "{number}");
    }
    let _ = again.set(&key(0), value(1), &SetOptions::default()).await.unwrap();
    again.close().await.unwrap();
    closed.is_ok()
}

/// A delete rewrites the other entries of its page, so it may need more space than it frees.
#[tokio::test]
async fn deletes_on_a_file_system_that_the_store_has_filled_succeed_or_are_refused_until_it_grows() {
    for durability in [SledDurability::Process, SledDurability::Interval(Duration::from_millis(200))] {
        let Some(mount) = Mount::tmpfs("96m") else { return };
        let builder = SledStore::builder().min_free_bytes(32 << 20).durability(durability);
        let store = builder.open(mount.path().join("store")).await.unwrap();
        let large = |number: u32| bytes::Bytes::from(vec![number.to_be_bytes()[3]; 20_000]);
        let mut stored = 0;
        let error = loop {
            match store.set(&key(stored), large(stored), &SetOptions::default()).await {
                Ok(_) => stored += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::Capacity, "{error:?}");
        assert!(stored > 500, "{durability}: only {stored} writes succeeded");
        let mut refused = Vec::new();
        for number in 0..stored / 2 {
            match store.delete(&key(number), &DeleteOptions::default()).await {
                Ok(outcome) => assert!(outcome.is_deleted(), "{durability}: {number}"),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Capacity, "{durability}: {error:?}");
                    refused.push(number);
                }
            }
        }
        for number in (stored / 2..stored).chain(refused.iter().copied()) {
            assert_eq!(store.get(&key(number)).await.unwrap().unwrap().value, large(number), "{durability}: {number}");
        }
        mount.remount("size=400m");
        for &number in &refused {
            let outcome = store.delete(&key(number), &DeleteOptions::default()).await.unwrap();
            assert!(outcome.is_deleted(), "{durability}: {number}");
        }
        let _ = store.set(&key(0), large(0), &SetOptions::default()).await.unwrap();
        assert_eq!(store.clear(&KeyPrefix::ALL).await.unwrap(), u64::from(stored - stored / 2 + 1));
        store.close().await.unwrap();
    }
}

/// ext4 allocates blocks only after sled's write has succeeded. If no blocks are free, the flush fails or hangs.
#[tokio::test]
async fn without_a_reserve_a_full_ext4_poisons_the_store_and_loses_nothing() {
    let Some(mount) = Mount::ext4(24) else { return };
    let filler = mount.path().join("filler");
    let free = 6 << 20;
    let stat = fs4::available_space(mount.path()).unwrap();
    std::fs::write(&filler, vec![1; usize::try_from(stat - free).unwrap()]).unwrap();
    let (path, timeout) = (mount.path().join("store"), Duration::from_secs(4));
    let store = SledStore::builder().min_free_bytes(0).operation_timeout(timeout).open(&path).await.unwrap();
    let mut stored = 0;
    while store.set(&key(stored), value(stored), &SetOptions::default()).await.is_ok() {
        stored += 1;
    }
    assert!(stored > 10, "only {stored} writes succeeded");
    let closed = tokio::time::timeout(timeout * 3, store.close()).await.expect("closing hangs");
    std::fs::remove_file(&filler).unwrap();
    let path = unlocked(path, &mount, closed.is_ok());
    let again = SledStore::builder().min_free_bytes(0).open(&path).await.unwrap();
    for number in 0..stored {
        assert_eq!(again.get(&key(number)).await.unwrap().unwrap().value, value(number), "{number}");
    }
    again.close().await.unwrap();
}

#[tokio::test]
async fn without_a_reserve_a_full_disk_poisons_the_store_until_it_is_opened_again_with_free_space() {
    assert!(fill_up(3_000).await, "sled did not release its files");
}

#[tokio::test]
async fn without_a_reserve_large_values_on_a_full_disk_poison_only_their_own_store() {
    fill_up(60_000).await;
    let folder = tempfile::tempdir().unwrap();
    let other = SledStore::open(folder.path().join("other")).await.unwrap();
    let _ = other.set(&key(0), value(0), &SetOptions::default()).await.unwrap();
    other.close().await.unwrap();
}
