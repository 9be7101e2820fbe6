//! Damaged files that sled can write again (snapshot, configuration): the store opens from the log with all its
//! entries.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kv_sled::verify;

use crate::child;
use crate::damage::{Damage, copy, history};

/// The timeout of a child process. It includes the start of the process on a busy machine.
const LIMIT: Duration = Duration::from_secs(10);

/// Returns the path of the snapshot of a store.
fn snapshot(path: &Path) -> PathBuf {
    let mut names = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    names.find(|path| path.file_name().unwrap().to_str().unwrap().starts_with("snap.")).expect("a snapshot")
}

/// Damages the derived files of a copy of a store, and asserts that the copy opens twice with all entries.
fn assert_opens_with_all_entries(original: &Path, steps: u64, damages: &[Case]) {
    for (name, damage) in damages {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        copy(original, &path);
        damage(&path);
        assert!(verify(&path).unwrap().is_whole, "{name}");
        for opening in 1..=2 {
            let response = child::run(&path, "history", LIMIT);
            assert_eq!(response, Some(format!("prefix {steps}")), "{name}, opening {opening}");
        }
    }
}

/// A name of the damage, and a function that damages the folder of a store.
type Case = (&'static str, fn(&Path));

const DAMAGES: &[Case] = &[
    ("an empty snapshot that was being written", |path| {
        fs::write(path.join("snap.7000000000000000.generating"), "").unwrap();
    }),
    ("the only snapshot, half-written", |path| {
        let (whole, half) = (snapshot(path), path.join("snap.7000000000000000.generating"));
        Damage::Truncate(32).at(&whole);
        fs::rename(whole, half).unwrap();
    }),
    ("an emptied snapshot", |path| fs::write(snapshot(path), "").unwrap()),
    ("a snapshot with a flipped bit", |path| Damage::Flip(9).at(&snapshot(path))),
    ("no snapshot", |path| Damage::Remove.at(&snapshot(path))),
    ("a configuration with a flipped bit", |path| Damage::Flip(9).at(&path.join("conf"))),
    ("an emptied configuration", |path| fs::write(path.join("conf"), "").unwrap()),
];

#[tokio::test]
async fn a_closed_store_with_damaged_derived_files_opens_with_all_its_entries() {
    let folder = tempfile::tempdir().unwrap();
    let original = history(folder.path(), 500, true).await;
    assert_opens_with_all_entries(&original, 500, DAMAGES);
}

/// The log is so long that sled has reused segments since it wrote the snapshot.
#[tokio::test]
async fn a_crashed_store_with_a_damaged_snapshot_opens_with_all_its_entries() {
    let folder = tempfile::tempdir().unwrap();
    let original = history(folder.path(), 5_000, false).await;
    assert_opens_with_all_entries(&original, 5_000, &DAMAGES[..3]);
}
