//! Full and read-only disks. The tests mount small file systems. Without root, the tests print that they did not run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may panic")]
#![allow(clippy::needless_pass_by_value, reason = "shorter to call")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use conformance_tests::{Fresh, Suite};
use kv_core::{
    Clock, DeleteOptions, Error, ErrorKind, Expiry, Key, KeyPrefix, KvStore, ManualClock, SetItem, SetOptions,
    SystemClock,
};
use kv_sqlite::rusqlite::Connection;
use kv_sqlite::{CAPABILITIES, SqliteStore};

mod support;
use support::block_on;

fn key(segment: impl ToString) -> Key {
    Key::new([segment.to_string()]).unwrap()
}

async fn set(store: &SqliteStore, key: &Key, value: impl Into<kv_core::Bytes>) {
    assert!(store.set(key, value.into(), &SetOptions::default()).await.unwrap().is_stored());
}

/// A small file system, which is unmounted when this value is dropped.
struct Disk {
    mounted: PathBuf,
    _folder: tempfile::TempDir,
}

impl Disk {
    /// A file system in memory.
    fn tmpfs(megabytes: u32) -> Option<Self> {
        Self::mount(&["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "tmpfs"], tempfile::tempdir().unwrap())
    }

    /// A file system in a file. Like a disk, and unlike tmpfs, it has a journal and allocates blocks late.
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
fn opening_a_store_on_a_full_disk_is_capacity() {
    let Some(disk) = Disk::ext4(4) else { return };
    let filler = disk.mounted.join("filler");
    fill_up(&filler);
    let path = disk.mounted.join("store.sqlite");
    assert_eq!(block_on(SqliteStore::open(&path)).unwrap_err().kind(), ErrorKind::Capacity);
    std::fs::remove_file(&filler).unwrap();
    block_on(async {
        let store = SqliteStore::open(&path).await.unwrap();
        set(&store, &key("k"), "v").await;
        store.close().await.unwrap();
    });
}

/// Writes until no block is free. A sync frees blocks, because ext4 reserves more blocks than it uses for pending
/// writes. Therefore the writes continue until nothing fits after a sync.
fn fill_up(path: &Path) {
    let mut file = std::fs::File::create(path).unwrap();
    let mut has_grown = true;
    while has_grown {
        has_grown = false;
        while file.write_all(&[0; 4_096]).is_ok() {
            has_grown = true;
        }
        let _ = file.sync_all();
    }
}

fn value(number: u32) -> Vec<u8> {
    vec![u8::try_from(number % 251).unwrap(); 50_000]
}

async fn assert_stored(store: &SqliteStore, numbers: &[u32]) {
    for number in numbers {
        assert_eq!(store.get(&key(number)).await.unwrap().unwrap().value, value(*number));
    }
}

/// Fills the disk with other files and the store, and tries further writes. Then frees space and writes with the same
/// handle.
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
                // If the disk becomes full after the last frame of a commit, recovery may still find the commit. In
                // this case, the outcome is indeterminate.
                Err(error) => {
                    assert!(error.kind() == ErrorKind::Capacity || error.maybe_applied(), "{error:?}");
                    refused += 1;
                }
            }
            assert!(SystemClock.now().duration_since(started).unwrap() < Duration::from_secs(5));
        }
        assert!(refused > 0 && !acknowledged.is_empty(), "{refused} of 400 refused");
        assert_stored(&store, &acknowledged).await;
        // The large write of this batch does not fit. The others are stored, or fail because the disk is full.
        let large = SetItem::new(key("large"), vec![0; 8 << 20]);
        let items = [SetItem::new(key("small"), "fits"), large, SetItem::new(key("last"), "fits")];
        let outcomes = store.set_many(&items).await;
        let error = outcomes[1].as_ref().unwrap_err();
        assert!(error.kind() == ErrorKind::Capacity || error.maybe_applied(), "{error:?}");
        // The same handle can write again after space was freed.
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

const TTL: Duration = Duration::from_secs(4);

/// Stores values of 100 kB with a time to live until the store is full, and returns their number.
async fn fill_to_capacity(store: &SqliteStore) -> u32 {
    let options = SetOptions::default().with_expiry(Expiry::After(TTL));
    for number in 0..400 {
        if let Err(error) = store.set(&key(number), vec![7; 100_000].into(), &options).await {
            assert_eq!(error.kind(), ErrorKind::Capacity, "{error:?}");
            return number;
        }
    }
    panic!("400 values of 100 kB fit");
}

async fn delete(store: &SqliteStore, number: u32) {
    let outcome = store.delete(&key(number), &DeleteOptions::default()).await;
    assert!(outcome.unwrap_or_else(|error| panic!("{number}: {error:?}")).is_deleted(), "{number}");
}

/// Fills the disk with the store itself, and tests that every call that frees space still works.
fn fill_with_the_store(disk: &Disk, min_free: u64) {
    let path = disk.mounted.join("store.sqlite");
    let clock = ManualClock::new();
    let open = || {
        let hour = Duration::from_secs(3_600);
        let builder = SqliteStore::builder().path(&path).clock(Arc::new(clock.clone())).sweep_interval(hour);
        builder.min_free_bytes(min_free).open()
    };
    block_on(async {
        let store = open().await.unwrap();
        let stored = fill_to_capacity(&store).await;
        assert!(stored > 30, "only {stored} values of 100 kB fit");
        // After a delete a new entry fits.
        delete(&store, 0).await;
        set(&store, &key("instead"), vec![7; 90_000]).await;
        clock.advance(TTL);
        assert_eq!(store.sweep().await.unwrap(), u64::from(stored) - 1);

        let again = fill_to_capacity(&store).await;
        assert!(again + 5 > stored, "{again} values fit after {stored}");
        let _ = store.close().await;
        drop(store);
        let store = open().await.unwrap();
        for number in 0..again / 2 {
            delete(&store, number).await;
        }
        assert_eq!(store.clear(&KeyPrefix::ALL).await.unwrap(), u64::from(again - again / 2) + 1);
        assert!(fill_to_capacity(&store).await + 5 > stored);
        store.close().await.unwrap();
        let store = open().await.unwrap();
        clock.advance(TTL);
        store.sweep().await.unwrap();
        set(&store, &key("k"), vec![7; 100_000]).await;
        assert!(store.verify().await.unwrap().is_sound());
        store.close().await.unwrap();
    });
}

#[test]
fn a_store_that_filled_its_tmpfs_deletes_sweeps_and_clears() {
    // The default reserve, and no reserve.
    for min_free in [1 << 20, 0] {
        if let Some(disk) = Disk::tmpfs(12) {
            fill_with_the_store(&disk, min_free);
        }
    }
}

#[test]
fn a_store_that_filled_its_disk_deletes_sweeps_and_clears() {
    if let Some(disk) = Disk::ext4(14) {
        fill_with_the_store(&disk, 1 << 20);
    }
}

#[test]
fn a_disk_without_a_free_byte_still_allows_deletes() {
    let Some(disk) = Disk::tmpfs(12) else { return };
    let path = disk.mounted.join("store.sqlite");
    block_on(async {
        let store = SqliteStore::open(&path).await.unwrap();
        for number in 0..60 {
            set(&store, &key(number), vec![7; 100_000]).await;
        }
        // Another program uses up the reserve.
        assert!(std::fs::write(disk.mounted.join("filler"), vec![0; 12 << 20]).is_err());
        let error = store.set(&key("new"), vec![7; 100_000].into(), &SetOptions::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Capacity);
        for number in 0..50 {
            delete(&store, number).await;
        }
        assert_eq!(store.clear(&KeyPrefix::ALL).await.unwrap(), 10);
        store.close().await.unwrap();
    });
}

/// An earlier version of this crate kept no reserve, and may have left commits in the log that do not fit into the
/// file. Entries can be removed after much less space was freed than these commits need.
#[test]
fn a_store_that_was_filled_without_a_reserve_can_be_cleared_after_a_little_space_is_freed() {
    let Some(disk) = Disk::tmpfs(12) else { return };
    let path = disk.mounted.join("store.sqlite");
    let filler = disk.mounted.join("filler");
    std::fs::write(&filler, vec![0; 256 << 10]).unwrap();
    block_on(async { SqliteStore::open(&path).await.unwrap().close().await.unwrap() });
    let raw = Connection::open(&path).unwrap();
    let insert = |number: u32| {
        raw.execute_batch(&format!(
            r#"BEGIN;
            INSERT INTO "kv beside" (value) VALUES (zeroblob(100000));
            INSERT INTO kv (key, deadline_check, version, checksum, beside)
            VALUES ('{number}', 0, X'00', 0, last_insert_rowid());
            COMMIT"#
        ))
    };
    let stored = (0..400).take_while(|number| insert(*number).is_ok()).count() as u64;
    let _ = raw.execute_batch("ROLLBACK");
    drop(raw);
    std::fs::remove_file(&filler).unwrap();
    block_on(async {
        let store = SqliteStore::open(&path).await.unwrap();
        let error = store.set(&key("new"), vec![7; 100_000].into(), &SetOptions::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Capacity);
        delete(&store, 0).await;
        assert_eq!(store.clear(&KeyPrefix::ALL).await.unwrap(), stored - 1);
        set(&store, &key("new"), vec![7; 100_000]).await;
        assert!(store.verify().await.unwrap().is_sound());
        store.close().await.unwrap();
    });
}

/// The file is mounted read-only, in a directory that can be written.
#[test]
fn a_read_only_database_file_is_denied() {
    let Some(disk) = Disk::tmpfs(4) else { return };
    let path = disk.mounted.join("store.sqlite");
    block_on(async {
        let store = SqliteStore::open(&path).await.unwrap();
        set(&store, &key("k"), "v").await;
        store.close().await.unwrap();
    });
    let mount = |arguments: &[&str]| Command::new("mount").args(arguments).arg(&path).status().unwrap().success();
    assert!(mount(&["--bind", path.to_str().unwrap()]) && mount(&["-o", "remount,bind,ro"]));
    let error = block_on(SqliteStore::open(&path)).unwrap_err();
    assert!(Command::new("umount").arg("-l").arg(&path).status().unwrap().success());
    assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
    assert!(error.to_string().contains("read-only"), "{error}");
}

/// The cases of a full disk, on a file system for each store.
fn full(mount: fn() -> Option<Disk>) -> Suite {
    if mount().is_none() {
        // Without the functions that fill a disk, the cases are skipped.
        let refuse = |_| async { Err::<SqliteStore, _>(Error::unavailable("no permission to mount a file system")) };
        return Suite::new("sqlite-full", CAPABILITIES, refuse);
    }
    let start = move || mount().ok_or_else(|| std::io::Error::other("the file system was not mounted"));
    let open = |disk: &Disk, fresh: Fresh| {
        SqliteStore::builder().path(disk.mounted.join("store.sqlite")).clock(fresh.clock()).open()
    };
    let fill = |disk: &mut Disk| {
        fill_up(&disk.mounted.join("filler"));
        Ok(())
    };
    let free = |disk: &mut Disk| match std::fs::remove_file(disk.mounted.join("filler")) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    Suite::on_disks("sqlite-full", CAPABILITIES, start, open, fill, free).with_clock().with_reopen()
}

mod full_tmpfs {
    use super::{Disk, full};

    conformance_tests::full_disk! { full(|| Disk::tmpfs(16)) }
}

mod full_ext4 {
    use super::{Disk, full};

    conformance_tests::full_disk! { full(|| Disk::ext4(20)) }
}
