//! Small disks: one that is full, and one that may not be written. Only root may mount them; elsewhere that is told.
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

/// A file system that is unmounted when the test ends.
struct Disk {
    mounted: PathBuf,
    _folder: tempfile::TempDir,
}

impl Disk {
    /// One in memory.
    fn tmpfs(megabytes: u32) -> Option<Self> {
        Self::mount(&["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "tmpfs"], tempfile::tempdir().unwrap())
    }

    /// One in a file, as disks are: with a journal, and blocks that are given out late.
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

    fn remount(&self, how: &str) {
        let status = Command::new("mount").args(["-o", &format!("remount,{how}")]).arg(&self.mounted).status();
        assert!(status.unwrap().success());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.mounted).status();
    }
}

#[test]
fn a_read_only_folder_is_denied() {
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
fn a_full_disk_in_memory_is_capacity_and_loses_nothing() {
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
    // The rest of the last block is not given out.
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

async fn are_there(store: &SqliteStore, numbers: &[u32]) {
    for number in numbers {
        assert_eq!(store.get(&key(number)).await.unwrap().unwrap().value, value(*number));
    }
}

/// Writes until the disk is full and beyond, makes room, and goes on with the same handle.
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
                // Where the room ends behind the commit's last frame, a crash may still find it: then it is in doubt.
                Err(error) => {
                    assert!(error.kind() == ErrorKind::Capacity || error.maybe_applied(), "{error:?}");
                    refused += 1;
                }
            }
            assert!(SystemClock.now().duration_since(started).unwrap() < Duration::from_secs(5));
        }
        assert!(refused > 0 && !acknowledged.is_empty(), "{refused} of 400 refused");
        are_there(&store, &acknowledged).await;
        // A batch in which one write does not fit: the others are written, or told that there is no room either.
        let large = SetItem::new(key("large"), vec![0; 8 << 20]);
        let items = [SetItem::new(key("small"), "fits"), large, SetItem::new(key("last"), "fits")];
        let outcomes = store.set_many(&items).await;
        let error = outcomes[1].as_ref().unwrap_err();
        assert!(error.kind() == ErrorKind::Capacity || error.maybe_applied(), "{error:?}");
        // Room comes back, and the same handle goes on.
        std::fs::remove_file(&filler).unwrap();
        set(&store, &key("again"), "x").await;
        are_there(&store, &acknowledged).await;
        for (item, outcome) in items.iter().zip(&outcomes) {
            assert!(outcome.is_err() || store.contains(&item.key).await.unwrap());
        }
        store.close().await.unwrap();
        let store = SqliteStore::open(&path).await.unwrap();
        assert!(store.verify().await.unwrap().is_sound());
        are_there(&store, &acknowledged).await;
        store.close().await.unwrap();
    });
}
