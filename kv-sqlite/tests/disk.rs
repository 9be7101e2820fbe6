//! Full and read-only disks. The tests mount small file systems; without root they print that they did not run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may panic")]
#![allow(clippy::needless_pass_by_value, reason = "shorter to call")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use kv_core::{Clock, ErrorKind, Key, KvStore, SetItem, SetOptions, SystemClock};
use kv_sqlite::SqliteStore;

mod support;
use support::block_on;

fn key(segment: impl ToString) -> Key {
    Key::new([segment.to_string()]).unwrap()
}

async fn set(store: &SqliteStore, key: &Key, value: impl Into<kv_core::Bytes>) {
    assert!(store.set(key, value.into(), &SetOptions::default()).await.unwrap().is_stored());
}

/// A small file system, which is unmounted when this is dropped.
struct Disk {
    mounted: PathBuf,
    _folder: tempfile::TempDir,
}

impl Disk {
    /// A file system in memory.
    fn tmpfs(megabytes: u32) -> Option<Self> {
        Self::mount(&["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "tmpfs"], tempfile::tempdir().unwrap())
    }

    /// A file system in a file. As on a disk, it has a journal and delayed allocation of blocks.
    fn ext4(megabytes: u32) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("image");
        std::fs::File::create(&image).unwrap().set_len(u64::from(megabytes) << 20).unwrap();
        let made = Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(&image).output();
        if !made.is_ok_and(|output| output.status.success()) {
            eprintln!("NOT RUN: `mkfs.ext4` is not installed");
            return None;
        }
        Self::mount(&["-o", "loop", image.to_str().unwrap()], folder)
    }

    fn mount(arguments: &[&str], folder: tempfile::TempDir) -> Option<Self> {
        let mounted = folder.path().join("disk");
        std::fs::create_dir(&mounted).unwrap();
        let output = Command::new("mount").args(arguments).arg(&mounted).output();
        if output.is_ok_and(|output| output.status.success()) {
            return Some(Self { mounted, _folder: folder });
        }
        eprintln!("NOT RUN: only root may mount a small file system");
        None
    }

    fn remount(&self, mode: &str) {
        let status = Command::new("mount").args(["-o", &format!("remount,{mode}")]).arg(&self.mounted).status();
        assert!(status.unwrap().success());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.mounted).status();
    }
}

#[test]
fn a_read_only_file_system_is_denied() {
    let Some(disk) = Disk::tmpfs(4) else { return };
    let path = disk.mounted.join("store.sqlite");
    block_on(async {
        let store = SqliteStore::open(&path).await.unwrap();
        set(&store, &key("k"), "v").await;
        store.close().await.unwrap();
    });
    let refused = |path: &Path| block_on(SqliteStore::open(path)).unwrap_err().kind();
    disk.remount("ro");
    assert_eq!(refused(&path), ErrorKind::Denied);
    assert_eq!(refused(&disk.mounted.join("new.sqlite")), ErrorKind::Denied);
    assert_eq!(refused(&disk.mounted.join("folder").join("new.sqlite")), ErrorKind::Denied);
    disk.remount("rw");
    block_on(async {
        let store = SqliteStore::open(&path).await.unwrap();
        assert_eq!(store.get(&key("k")).await.unwrap().unwrap().value, "v");
        store.close().await.unwrap();
    });
}

#[test]
fn a_full_tmpfs_is_capacity_and_loses_nothing() {
    if let Some(disk) = Disk::tmpfs(8) {
        fill(&disk);
    }
}

#[test]
fn a_full_disk_is_capacity_and_loses_nothing() {
    if let Some(disk) = Disk::ext4(10) {
        fill(&disk);
    }
}

#[test]
fn a_disk_without_room_for_a_store_is_capacity() {
    let Some(disk) = Disk::ext4(4) else { return };
    let filler = disk.mounted.join("filler");
    // The write fails when the disk is full, and leaves less than one free block.
    assert!(std::fs::write(&filler, vec![0; 8 << 20]).is_err());
    let path = disk.mounted.join("store.sqlite");
    assert_eq!(block_on(SqliteStore::open(&path)).unwrap_err().kind(), ErrorKind::Capacity);
    std::fs::remove_file(&filler).unwrap();
    block_on(async {
        let store = SqliteStore::open(&path).await.unwrap();
        set(&store, &key("k"), "v").await;
        store.close().await.unwrap();
    });
}

fn value(number: u32) -> Vec<u8> {
    vec![u8::try_from(number % 251).unwrap(); 50_000]
}

async fn assert_stored(store: &SqliteStore, numbers: &[u32]) {
    for number in numbers {
        assert_eq!(store.get(&key(number)).await.unwrap().unwrap().value, value(*number));
    }
}

/// Writes until the disk is full and continues, frees space, and continues with the same handle.
fn fill(disk: &Disk) {
    let path = disk.mounted.join("store.sqlite");
    let filler = disk.mounted.join("filler");
    std::fs::write(&filler, vec![0; 2 << 20]).unwrap();
    block_on(async {
        let store = SqliteStore::open(&path).await.unwrap();
        let mut acknowledged = Vec::new();
        let mut refused = 0;
        for number in 0..400 {
            let started = SystemClock.now();
            match store.set(&key(number), value(number).into(), &SetOptions::default()).await {
                Ok(_) => acknowledged.push(number),
                // If the disk fills after the commit's last frame, recovery may still find the commit: it is
                // indeterminate.
                Err(error) => {
                    assert!(error.kind() == ErrorKind::Capacity || error.maybe_applied(), "{error:?}");
                    refused += 1;
                }
            }
            assert!(SystemClock.now().duration_since(started).unwrap() < Duration::from_secs(5));
        }
        assert!(refused > 0 && !acknowledged.is_empty(), "{refused} of 400 refused");
        assert_stored(&store, &acknowledged).await;
        // One write of this batch does not fit. The others are stored, or fail because the disk is full too.
        let large = SetItem::new(key("large"), vec![0; 8 << 20]);
        let items = [SetItem::new(key("small"), "fits"), large, SetItem::new(key("last"), "fits")];
        let outcomes = store.set_many(&items).await;
        let error = outcomes[1].as_ref().unwrap_err();
        assert!(error.kind() == ErrorKind::Capacity || error.maybe_applied(), "{error:?}");
        // After space is freed the same handle continues.
        std::fs::remove_file(&filler).unwrap();
        set(&store, &key("again"), "x").await;
        assert_stored(&store, &acknowledged).await;
        for (item, outcome) in items.iter().zip(&outcomes) {
            assert!(outcome.is_err() || store.contains(&item.key).await.unwrap());
        }
        store.close().await.unwrap();
        let store = SqliteStore::open(&path).await.unwrap();
        assert!(store.verify().await.unwrap().is_sound());
        assert_stored(&store, &acknowledged).await;
        store.close().await.unwrap();
    });
}
