//! Damaged files: flipped bits, truncations and zeros in each 1/64 of a file. A closed store opens with all its
//! entries, or opening fails with an error. A crashed store may also open with a prefix of its history. No value is
//! wrong, no call hangs, and no panic reaches the caller.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use kv_core::{KvStore, SetOptions};
use kv_sled::SledStore;

use crate::child::{self, step};

/// The timeout of a child process. It includes the start of the process on a busy machine.
const LIMIT: Duration = Duration::from_secs(5);

/// The number of parts of a file. A test damages one part after the other.
pub(crate) const PARTS: u64 = 64;

/// Writes a history and returns the folder of the store: closed, or as after a crash.
pub(crate) async fn history(folder: &Path, steps: u64, is_closed: bool) -> PathBuf {
    let path = folder.join("store");
    let store = SledStore::open(&path).await.unwrap();
    for number in 0..steps {
        let (key, value) = step(number);
        let _ = store.set(&key, value, &SetOptions::default()).await.unwrap();
        // Open the store again in the middle, so that sled writes a snapshot. sled has different code for the log
        // before the snapshot and after it.
        if number == steps / 2 {
            store.close().await.unwrap();
            return continue_history(folder, number + 1..steps, is_closed).await;
        }
    }
    unreachable!("the history has a middle")
}

async fn continue_history(folder: &Path, steps: std::ops::Range<u64>, is_closed: bool) -> PathBuf {
    let path = folder.join("store");
    let store = SledStore::open(&path).await.unwrap();
    for number in steps {
        let (key, value) = step(number);
        let _ = store.set(&key, value, &SetOptions::default()).await.unwrap();
    }
    if is_closed {
        store.close().await.unwrap();
        return path;
    }
    // sled's threads may write during this copy, but only to the log after the acknowledged writes.
    let crashed = folder.join("crashed");
    copy(&path, &crashed);
    store.close().await.unwrap();
    crashed
}

pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            // sled removes its older snapshots while the store is open.
            match fs::copy(entry.path(), target) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                copied => drop(copied.unwrap()),
            }
        }
    }
}

/// Returns the files of a store, including those of large values.
pub(crate) fn files(path: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(self::files(&path)) } else { files.push(path) }
    }
    files.sort();
    files
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Damage {
    Flip(u64),
    Truncate(u64),
    Zero(u64),
    Remove,
}

impl Damage {
    pub(crate) fn at(self, file: &Path) {
        if matches!(self, Self::Remove) {
            return fs::remove_file(file).unwrap();
        }
        let mut bytes = fs::read(file).unwrap();
        let length = bytes.len();
        let start = |part: u64| length * usize::try_from(part).unwrap() / usize::try_from(PARTS).unwrap();
        match self {
            // Vary the position in the part, because the beginning of a part may be a boundary of the file format.
            Self::Flip(part) => {
                let width = (length as u64 / PARTS).max(1);
                let position = start(part) + usize::try_from(part.wrapping_mul(7_919) % width).unwrap();
                if let Some(byte) = bytes.get_mut(position) {
                    *byte ^= 1 << (part % 8);
                }
            }
            Self::Truncate(part) => bytes.truncate(start(part)),
            Self::Zero(part) => {
                let start = start(part);
                let end = (start + 4_096).min(length);
                bytes[start..end].fill(0);
            }
            Self::Remove => {}
        }
        fs::write(file, bytes).unwrap();
    }
}

/// Makes one damaged copy of a store for each damage, opens each copy in a child process and counts the outcomes.
fn outcomes(original: &Path, file: &Path, damages: Vec<Damage>, steps: u64) -> BTreeMap<String, usize> {
    let everything = format!("prefix {steps}");
    let work = Mutex::new(damages.into_iter());
    let counts = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let Some(damage) = work.lock().unwrap().next() else { return };
                    let folder = tempfile::tempdir().unwrap();
                    let path = folder.path().join("store");
                    copy(original, &path);
                    damage.at(&path.join(file));
                    let response = child::run(&path, "history", LIMIT).unwrap_or_else(|| "a hang".to_owned());
                    let outcome = match response.as_str() {
                        error if error.starts_with("error Corrupt") => error.to_owned(),
                        all if all == everything => "everything".to_owned(),
                        prefix if prefix.starts_with("prefix ") => "a prefix".to_owned(),
                        other => format!("{other} ({damage:?})"),
                    };
                    *counts.lock().unwrap().entry(outcome).or_insert(0) += 1;
                }
            });
        }
    });
    counts.into_inner().unwrap()
}

/// Asserts that each copy opens as the module documentation says.
fn check(name: &str, original: &Path, file: &Path, damages: Vec<Damage>, steps: u64, is_closed: bool) {
    let counts = outcomes(original, file, damages, steps);
    println!("{name} of {}: {counts:?}", file.display());
    let is_good = |outcome: &str| match outcome {
        "everything" => true,
        "a prefix" => !is_closed,
        other => other.starts_with("error Corrupt"),
    };
    let bad: Vec<_> = counts.keys().filter(|outcome| !is_good(outcome)).collect();
    assert!(bad.is_empty(), "{name}: {bad:?}");
}

/// The number of steps of a history. These steps fill several segments of sled's log.
pub(crate) const STEPS: u64 = 3_000;

async fn damaged_log(name: &str, damage: fn(u64) -> Damage, is_closed: bool) {
    let folder = tempfile::tempdir().unwrap();
    let original = history(folder.path(), STEPS, is_closed).await;
    assert_eq!(child::run(&original, "history", LIMIT).as_deref(), Some(format!("prefix {STEPS}").as_str()));
    check(name, &original, Path::new("db"), (0..PARTS).map(damage).collect(), STEPS, is_closed);
}

#[tokio::test]
async fn a_flipped_bit_in_the_log_is_detected_or_harmless() {
    damaged_log("a flipped bit", Damage::Flip, true).await;
}

#[tokio::test]
async fn a_flipped_bit_in_the_log_of_a_crashed_store_is_detected_or_harmless() {
    damaged_log("a flipped bit after a crash", Damage::Flip, false).await;
}

#[tokio::test]
async fn a_truncated_log_is_detected_or_harmless() {
    damaged_log("a truncation", Damage::Truncate, true).await;
}

#[tokio::test]
async fn zeros_in_the_log_are_detected_or_harmless() {
    damaged_log("a zeroed page", Damage::Zero, true).await;
}

#[tokio::test]
async fn damage_to_any_other_file_is_detected_or_harmless() {
    let folder = tempfile::tempdir().unwrap();
    let original = history(folder.path(), 400, true).await;
    for file in files(&original) {
        let file = file.strip_prefix(&original).unwrap();
        if file != Path::new("db") {
            let damages = [0, 20, 63].into_iter().flat_map(|part| [Damage::Flip(part), Damage::Truncate(part)]);
            check("damage", &original, file, damages.chain([Damage::Remove]).collect(), 400, true);
        }
    }
}
