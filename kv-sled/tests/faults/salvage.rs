//! Verification and export of intact and damaged files.

use std::collections::HashMap;
use std::path::Path;

use bytes::Bytes;
use kv_core::{ErrorKind, Key, KvStore, SetOptions};
use kv_sled::{SledStore, Verification, export, verify};

use crate::child::{KEYS, step};
use crate::damage::{Damage, PARTS, STEPS, copy, files, history};

fn exported(path: &Path) -> (HashMap<Key, Bytes>, Verification) {
    let mut entries = HashMap::new();
    let found = export(path, |key, entry| {
        assert!(entries.insert(key, entry.value).is_none(), "a key was exported twice");
        Ok(())
    })
    .unwrap();
    assert_eq!(found.entries, entries.len() as u64);
    (entries, found)
}

fn expected() -> HashMap<Key, Bytes> {
    after(STEPS)
}

/// Returns the entries after this number of steps of the history.
fn after(steps: u64) -> HashMap<Key, Bytes> {
    (0..steps).map(step).collect()
}

#[tokio::test]
async fn an_export_of_a_closed_or_crashed_store_has_all_entries() {
    for is_closed in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let path = history(folder.path(), STEPS, is_closed).await;
        let (entries, found) = exported(&path);
        assert!(found.is_whole, "{found:?}");
        assert_eq!((found.expected_records, found.damaged_entries), (Some(found.records), 0));
        assert!(entries == expected());
        // The export has changed no file, so the store still passes its full check when it opens.
        SledStore::open(&path).await.unwrap().close().await.unwrap();
    }
}

#[tokio::test]
async fn verifying_an_open_store_is_unavailable() {
    let folder = tempfile::tempdir().unwrap();
    let store = SledStore::open(folder.path().join("store")).await.unwrap();
    assert_eq!(verify(folder.path().join("store")).unwrap_err().kind(), ErrorKind::Unavailable);
    store.close().await.unwrap();
    assert!(verify(folder.path().join("store")).unwrap().is_whole);
}

#[test]
fn verifying_an_empty_log_is_corrupt_and_a_foreign_log_is_damaged() {
    let folder = tempfile::tempdir().unwrap();
    assert!(verify(folder.path().join("missing")).is_err());
    std::fs::write(folder.path().join("db"), "").unwrap();
    assert_eq!(verify(folder.path()).unwrap_err().kind(), ErrorKind::Corrupt);
    std::fs::write(folder.path().join("db"), "not a log".repeat(100_000)).unwrap();
    let found = verify(folder.path()).unwrap();
    assert!(!found.is_whole && found.entries == 0 && found.damaged_log_parts > 0, "{found:?}");
}

/// True if these are the entries after some prefix of the history.
fn is_prefix(entries: &HashMap<Key, Bytes>) -> bool {
    let number = |value: &Bytes| {
        let digits = value.split(|&byte| byte == b'.').next().unwrap();
        std::str::from_utf8(digits).unwrap().parse::<u64>().unwrap()
    };
    let last = entries.values().map(number).max();
    last.is_none_or(|last| *entries == after(last + 1))
}

/// Every exported value was once written under its key. An export that is reported as whole has exactly
/// the entries that the store had when it was closed.
#[tokio::test]
async fn an_export_of_damaged_files_has_only_values_that_were_written() {
    salvage(true).await;
}

/// After a crash, an export that is reported as whole may have any state that the store once had.
#[tokio::test]
async fn an_export_of_damaged_files_of_a_crashed_store_has_only_values_that_were_written() {
    salvage(false).await;
}

async fn salvage(is_closed: bool) {
    let folder = tempfile::tempdir().unwrap();
    let original = history(folder.path(), STEPS, is_closed).await;
    let mut written: HashMap<Key, Vec<Bytes>> = HashMap::new();
    for number in 0..STEPS {
        let (key, value) = step(number);
        written.entry(key).or_default().push(value);
    }
    let expected = expected();
    assert!(files(&original).len() > 2);
    let path = folder.path().join("damaged");
    for damage in [Damage::Flip as fn(u64) -> Damage, Damage::Truncate, Damage::Zero] {
        let (mut whole, mut readable, mut fewest) = (0, 0, KEYS);
        for part in 0..PARTS {
            copy(&original, &path);
            damage(part).at(&path.join("db"));
            let (mut entries, mut is_whole) = (HashMap::new(), false);
            // Skip the empty log: its export is an error.
            if part > 0 || !matches!(damage(part), Damage::Truncate(_)) {
                let (found_entries, found) = exported(&path);
                (entries, is_whole) = (found_entries, found.is_whole);
            }
            for (key, value) in &entries {
                assert!(written[key].contains(value), "{:?}: a value that was never written", damage(part));
            }
            let is_state = if is_closed { entries == expected } else { is_prefix(&entries) };
            assert!(!is_whole || is_state, "{:?}: wrongly reported as whole", damage(part));
            whole += u64::from(is_whole);
            readable += entries.len() as u64;
            fewest = fewest.min(entries.len() as u64);
        }
        let mean = readable / PARTS;
        println!(
            "{:?} and so on: {whole} of {PARTS} whole, {mean} of {KEYS} entries readable, {fewest} at least",
            damage(0)
        );
    }
}

/// The clean-shutdown marker distinguishes damage to the last write, or a truncated log, from a crash.
#[tokio::test]
async fn a_flipped_bit_or_a_truncation_that_loses_a_write_of_a_closed_store_is_detected() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let store = SledStore::open(&path).await.unwrap();
    for number in 1..4 {
        let (key, value) = step(number);
        let _ = store.set(&key, value, &SetOptions::default()).await.unwrap();
    }
    store.close().await.unwrap();
    let (expected, _) = exported(&path);
    let log = std::fs::read(path.join("db")).unwrap();
    for offset in 0..log.len() {
        let mut flipped = log.clone();
        flipped[offset] ^= 1 << (offset % 8);
        for damaged in [&flipped, &log[..offset]] {
            std::fs::write(path.join("db"), damaged).unwrap();
            let (entries, found) = exported(&path);
            assert!(
                !found.is_whole || entries == expected,
                "offset {offset}, {} of {} bytes left",
                damaged.len(),
                log.len()
            );
        }
    }
}
