//! Getting out what is readable, from files that are whole and from files that are not.

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
        assert!(entries.insert(key, entry.value).is_none(), "a key came twice");
        Ok(())
    })
    .unwrap();
    assert_eq!(found.entries, entries.len() as u64);
    (entries, found)
}

fn expected() -> HashMap<Key, Bytes> {
    after(STEPS)
}

/// What the history has left after so many steps.
fn after(steps: u64) -> HashMap<Key, Bytes> {
    (0..steps).map(step).collect()
}

#[tokio::test]
async fn everything_is_exported_from_a_closed_and_from_a_crashed_store() {
    for is_closed in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let path = history(folder.path(), STEPS, is_closed).await;
        let (entries, found) = exported(&path);
        assert!(found.is_whole, "{found:?}");
        assert_eq!((found.expected_records, found.damaged_entries), (Some(found.records), 0));
        assert!(entries == expected());
        // Nothing was written: sled still opens it, and finds it whole.
        SledStore::open(&path).await.unwrap().close().await.unwrap();
    }
}

#[tokio::test]
async fn a_store_that_is_open_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let store = SledStore::open(folder.path().join("store")).await.unwrap();
    assert_eq!(verify(folder.path().join("store")).unwrap_err().kind(), ErrorKind::Unavailable);
    store.close().await.unwrap();
    assert!(verify(folder.path().join("store")).unwrap().is_whole);
}

#[test]
fn what_is_no_store_is_told() {
    let folder = tempfile::tempdir().unwrap();
    assert!(verify(folder.path().join("missing")).is_err());
    std::fs::write(folder.path().join("db"), "").unwrap();
    assert_eq!(verify(folder.path()).unwrap_err().kind(), ErrorKind::Corrupt);
    std::fs::write(folder.path().join("db"), "not a log".repeat(100_000)).unwrap();
    let found = verify(folder.path()).unwrap();
    assert!(!found.is_whole && found.entries == 0 && found.damaged_log_parts > 0, "{found:?}");
}

/// Whether this is what the history had left at some step.
fn is_prefix(entries: &HashMap<Key, Bytes>) -> bool {
    let number = |value: &Bytes| {
        let digits = value.split(|&byte| byte == b'.').next().unwrap();
        std::str::from_utf8(digits).unwrap().parse::<u64>().unwrap()
    };
    let last = entries.values().map(number).max();
    last.is_none_or(|last| *entries == after(last + 1))
}

/// Whatever is damaged: what comes out was once written under its key, and "whole" is said only of the state in which the store
/// was closed.
#[tokio::test]
async fn damaged_files_give_what_was_written_and_never_anything_else() {
    salvage(true).await;
}

/// After a crash it is said of any state that the store has had.
#[tokio::test]
async fn damaged_files_of_a_crashed_store_give_what_was_written_and_never_anything_else() {
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
            // A log that was cut off at its first byte holds nothing at all.
            if part > 0 || !matches!(damage(part), Damage::Truncate(_)) {
                let (found_entries, found) = exported(&path);
                (entries, is_whole) = (found_entries, found.is_whole);
            }
            for (key, value) in &entries {
                assert!(written[key].contains(value), "{:?}: a value that was never written", damage(part));
            }
            let is_state = if is_closed { entries == expected } else { is_prefix(&entries) };
            assert!(!is_whole || is_state, "{:?}: not whole, and said to be", damage(part));
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

/// The last write of all is told from one that a crash has torn, and a log that has lost its end from one that had none.
#[tokio::test]
async fn neither_a_flipped_bit_nor_a_cut_takes_a_write_from_a_closed_store_unnoticed() {
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
    for place in 0..log.len() {
        let mut flipped = log.clone();
        flipped[place] ^= 1 << (place % 8);
        for damaged in [&flipped, &log[..place]] {
            std::fs::write(path.join("db"), damaged).unwrap();
            let (entries, found) = exported(&path);
            assert!(!found.is_whole || entries == expected, "{place} of {}, {} left", log.len(), damaged.len());
        }
    }
}
