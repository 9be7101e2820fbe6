//! Damaged files: what can be read is right, and what cannot is said to be damaged.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may panic")]
#![allow(clippy::needless_pass_by_value, reason = "shorter to call")]

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use kv_core::{DeleteOptions, ErrorKind, Expiry, Key, KvStore, ListQuery, ManualClock, SetItem, SetOptions};
use kv_sqlite::SqliteStore;
use kv_sqlite::rusqlite::Connection;

mod support;
use support::{Random, block_on};

fn key(segment: impl ToString) -> Key {
    Key::new([segment.to_string()]).unwrap()
}

async fn set(store: &SqliteStore, key: &Key, value: impl Into<kv_core::Bytes>) {
    assert!(store.set(key, value.into(), &SetOptions::default()).await.unwrap().is_stored());
}

/// A closed store of `count` entries, some of them with a deadline, some larger than a page; and what is in it.
async fn filled(path: &Path, count: usize) -> HashMap<Key, Vec<u8>> {
    let store = SqliteStore::open(path).await.unwrap();
    let mut random = Random::seeded(7);
    let mut expected = HashMap::new();
    let mut items = Vec::new();
    for number in 0..count {
        let length = if number % 50 == 0 { 9_000 } else { random.below(300) };
        let value: Vec<u8> = (0..length).map(|_| u8::try_from(random.below(256)).unwrap()).collect();
        let key = Key::new(["entries", &format!("{:08}", random.below(100_000_000))]).unwrap();
        let expiry = if number % 3 == 0 { Expiry::After(Duration::from_secs(86_400)) } else { Expiry::Never };
        items.push(SetItem::new(key.clone(), value.clone()).with_options(SetOptions::default().with_expiry(expiry)));
        expected.insert(key, value);
    }
    for outcome in store.set_many(&items).await {
        assert!(outcome.unwrap().is_stored());
    }
    store.close().await.unwrap();
    expected
}

#[test]
fn a_damaged_value_is_corrupt_and_the_others_work() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.sqlite");
    block_on(async {
        let store = SqliteStore::open(&path).await.unwrap();
        for number in 0..5 {
            set(&store, &key(number), "sound").await;
        }
        let damage = r"UPDATE kv SET value = CAST('soUnd' AS BLOB) WHERE key IN ('0', '2')";
        assert_eq!(Connection::open(&path).unwrap().execute(damage, []).unwrap(), 2);
        let error = store.get(&key(2)).await.unwrap_err();
        assert_eq!((error.kind(), error.key()), (ErrorKind::Corrupt, Some(&key(2))));
        assert_eq!(store.get(&key(3)).await.unwrap().unwrap().value, "sound");

        // The list tells where the damage is, and goes on behind it.
        let (mut sound, mut damaged, mut query) = (Vec::new(), Vec::new(), ListQuery::default());
        loop {
            match store.list(&query).await {
                Ok(page) => {
                    sound.extend(page.items.into_iter().map(|item| item.key));
                    let Some(next) = page.next else { break };
                    query = query.resume(next);
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Corrupt);
                    damaged.push(error.key().unwrap().clone());
                    query = query.resume(error.key().unwrap().clone());
                }
            }
        }
        assert_eq!((sound, damaged), (vec![key(1), key(3), key(4)], vec![key(0), key(2)]));
        let verification = store.verify().await.unwrap();
        assert_eq!((verification.entries, verification.damaged), (3, vec![key(0), key(2)]));
        assert_eq!(verification.problems, Vec::<String>::new());

        // A condition over damage is refused, a plain write heals it.
        let conditional = SetOptions::default().with_when(kv_core::When::Present);
        let error = store.set(&key(2), "new".into(), &conditional).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        set(&store, &key(2), "healed").await;
        assert!(store.delete(&key(0), &DeleteOptions::default()).await.unwrap().is_deleted());
        assert!(store.verify().await.unwrap().is_sound());
    });
}

#[test]
fn a_damaged_deadline_is_corrupt_and_not_swept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.sqlite");
    let clock = ManualClock::new();
    block_on(async {
        let store = SqliteStore::builder().path(&path).clock(std::sync::Arc::new(clock.clone())).open().await.unwrap();
        let hour = SetOptions::default().with_expiry(Expiry::After(Duration::from_secs(3_600)));
        for name in ["damaged", "sound"] {
            assert!(store.set(&key(name), "v".into(), &hour).await.unwrap().is_stored());
        }
        Connection::open(&path).unwrap().execute("UPDATE kv SET deadline = 5 WHERE key = 'damaged'", []).unwrap();
        assert_eq!(store.get(&key("damaged")).await.unwrap_err().kind(), ErrorKind::Corrupt);
        assert_eq!(store.contains(&key("damaged")).await.unwrap_err().kind(), ErrorKind::Corrupt);
        assert_eq!(store.sweep().await.unwrap(), 0);
        clock.advance(Duration::from_secs(3_601));
        assert_eq!(store.get(&key("sound")).await.unwrap(), None);
        store.sweep().await.unwrap();
        assert_eq!(store.get(&key("damaged")).await.unwrap_err().kind(), ErrorKind::Corrupt);
        assert_eq!(store.verify().await.unwrap().damaged, vec![key("damaged")]);
    });
}

/// How stores in damaged files turned out.
#[derive(Debug, Default)]
struct Tally {
    refused: u32,
    whole: u32,
    told: u32,
    hidden: u32,
}

/// Opens a damaged file and reads everything: each answer is right, or an error; a missing entry is known to `verify`.
async fn examine(path: &Path, expected: &HashMap<Key, Vec<u8>>, what: &str, tally: &mut Tally) {
    let store = match tokio::time::timeout(Duration::from_secs(5), SqliteStore::open(path)).await.expect(what) {
        Ok(store) => store,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{what}: {error:?}");
            tally.refused += 1;
            return;
        }
    };
    let (mut errors, mut missing) = (0, 0);
    for (key, value) in expected {
        match store.get(key).await {
            Ok(Some(entry)) => assert_eq!(entry.value, value, "{what}: a wrong value"),
            Ok(None) => missing += 1,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Corrupt, "{what}: {error:?}");
                errors += 1;
            }
        }
    }
    let mut query = ListQuery::default();
    // A list that meets a damaged page ends with an error that names no row.
    for _ in 0..=expected.len() {
        match store.list(&query).await {
            Ok(page) => {
                for item in page.items {
                    assert_eq!(item.entry.unwrap().value, expected[&item.key], "{what}: a wrong value in a list");
                }
                let Some(next) = page.next else { break };
                query = query.resume(next);
            }
            Err(error) => match error.key() {
                Some(key) => query = query.resume(key.clone()),
                None => break,
            },
        }
    }
    let verification = tokio::time::timeout(Duration::from_secs(5), store.verify()).await.expect(what).unwrap();
    let is_sound = verification.is_sound();
    assert!(!is_sound || (errors == 0 && missing == 0), "{what}: {errors} errors, {missing} missing, and a sound file");
    match (errors, missing) {
        (0, 0) => tally.whole += 1,
        (_, 0) => tally.told += 1,
        _ => tally.hidden += 1,
    }
    let _ = store.close().await;
}

#[test]
fn a_flipped_bit_never_gives_a_wrong_value() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.sqlite");
    block_on(async {
        let expected = filled(&path, 2_000).await;
        let bytes = std::fs::read(&path).unwrap();
        let (mut tally, mut random) = (Tally::default(), Random::new());
        for place in 0..64 {
            let offset = bytes.len() / 64 * place + random.index(bytes.len() / 64);
            let bit = random.below(8);
            let mut damaged = bytes.clone();
            damaged[offset] ^= 1 << bit;
            let copy = folder.path().join(format!("flip-{place}.sqlite"));
            std::fs::write(&copy, damaged).unwrap();
            examine(&copy, &expected, &format!("bit {bit} of byte {offset} of {}", bytes.len()), &mut tally).await;
        }
        eprintln!("64 flipped bits: {tally:?}");
    });
}

#[test]
fn a_truncated_file_never_gives_a_wrong_value() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.sqlite");
    block_on(async {
        let expected = filled(&path, 2_000).await;
        let bytes = std::fs::read(&path).unwrap();
        let mut tally = Tally::default();
        for place in 1..64 {
            let length = bytes.len() / 64 * place;
            let copy = folder.path().join(format!("cut-{place}.sqlite"));
            std::fs::write(&copy, &bytes[..length]).unwrap();
            examine(&copy, &expected, &format!("{length} of {} bytes", bytes.len()), &mut tally).await;
        }
        eprintln!("63 cuts: {tally:?}");
        assert_eq!(tally.whole, 0);
    });
}

/// A log that a killed process left, damaged: the file is as at some commit before, in whole commits.
#[test]
fn a_log_that_is_cut_or_damaged_never_gives_a_wrong_value() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.sqlite");
    block_on(async {
        let store = SqliteStore::open(&path).await.unwrap();
        for number in 0..200 {
            set(&store, &key(number), vec![7; 500]).await;
        }
        // As it lies on the disk when the process is killed now.
        let (main, log) =
            (std::fs::read(&path).unwrap(), std::fs::read(folder.path().join("store.sqlite-wal")).unwrap());
        store.close().await.unwrap();
        let mut random = Random::new();
        for place in 0..64 {
            let copy = folder.path().join(format!("log-{place}.sqlite"));
            std::fs::write(&copy, &main).unwrap();
            let offset = log.len() / 64 * place + random.index(log.len() / 64);
            let mut damaged = log.clone();
            if place % 2 == 0 {
                damaged.truncate(offset);
            } else {
                damaged[offset] ^= 1 << random.below(8);
            }
            std::fs::write(folder.path().join(format!("log-{place}.sqlite-wal")), damaged).unwrap();
            let store = SqliteStore::open(&copy).await.unwrap();
            assert!(store.verify().await.unwrap().is_sound(), "{place}");
            // What is there is the first so many writes, each whole.
            let mut has_ended = false;
            for number in 0..200 {
                match store.get(&key(number)).await.unwrap() {
                    Some(entry) => assert!(!has_ended && entry.value == vec![7; 500], "{place}: {number}"),
                    None => has_ended = true,
                }
            }
            store.close().await.unwrap();
        }
    });
}
