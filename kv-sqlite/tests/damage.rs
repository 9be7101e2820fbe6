//! Damaged files: a read returns the right value or an error, and `verify` reports the damage if entries are missing.
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

/// Creates and closes a store of `count` entries. Some entries have a deadline, and some are larger than a page.
/// Returns the entries.
async fn create_store(path: &Path, count: usize) -> HashMap<Key, Vec<u8>> {
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
fn a_damaged_value_is_corrupt_and_other_entries_work() {
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

        // A list reports the keys of damaged entries and continues after them.
        let (mut sound, mut damaged, mut query) = (Vec::new(), Vec::new(), ListQuery::default());
        loop {
            match store.list(&query).await {
                Ok(page) => {
                    sound.extend(page.items.into_iter().map(|item| item.key));
                    damaged.extend(page.damaged.iter().map(|error| error.key().unwrap().clone()));
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

        // A conditional write of a damaged entry is an error. An unconditional write replaces the damaged entry.
        let conditional = SetOptions::default().with_when(kv_core::When::Present);
        let error = store.set(&key(2), "new".into(), &conditional).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        set(&store, &key(2), "repaired").await;
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

/// E-4 and L-4: a list continues after a row that cannot be read, and ignores foreign rows.
#[test]
fn a_list_continues_after_damaged_and_foreign_rows_and_respects_its_limits() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.sqlite");
    block_on(async {
        let store = SqliteStore::open(&path).await.unwrap();
        for number in 0..10 {
            set(&store, &key(number), vec![7; 1_000]).await;
            set(&store, &key(format!("a{number}")), "small").await;
        }
        let damage = r"
            UPDATE kv SET checksum = checksum + 1 WHERE key IN ('0', '4', '5', 'a9');
            UPDATE kv SET deadline_check = deadline_check + 1 WHERE key IN ('7', 'a0');
            INSERT INTO kv (key, deadline_check, version, checksum, value)
            SELECT column1, 0, X'00', 0, X'00' FROM (VALUES ('not canonical'), ('$zz'), (CAST(X'ff' AS TEXT)));
            WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 10500)
            INSERT INTO kv (key, deadline_check, version, checksum, value)
            SELECT '4 ' || x, 0, X'00', 0, X'00' FROM n";
        Connection::open(&path).unwrap().execute_batch(damage).unwrap();
        let numbered = |prefix: &str| (0..10).map(|number| key(format!("{prefix}{number}"))).collect::<Vec<_>>();
        let all = [numbered(""), numbered("a")].concat();
        let (of_values, of_deadlines) = (["0", "4", "5", "7", "a0", "a9"], ["7", "a0"]);
        for (reverse, keys_only, limit, max_page_bytes) in [
            (false, false, None, usize::MAX),
            (false, false, Some(4), usize::MAX),
            (false, false, Some(1), usize::MAX),
            (true, false, Some(3), usize::MAX),
            (false, false, None, 2_500),
            (true, false, None, 1),
            (true, true, Some(4), usize::MAX),
            (false, true, None, usize::MAX),
        ] {
            let mut query = ListQuery::default();
            (query.reverse, query.keys_only, query.limit, query.max_page_bytes) =
                (reverse, keys_only, limit, max_page_bytes);
            let case = format!("{query:?}");
            let (mut found, mut damaged) = (Vec::new(), Vec::new());
            loop {
                let page = store.list(&query).await.unwrap();
                assert!(page.items.len() + page.damaged.len() <= limit.unwrap_or(usize::MAX), "{case}");
                let bytes = page.items.iter().filter_map(|item| item.entry.as_ref()).map(|entry| entry.value.len());
                assert!(bytes.sum::<usize>() <= max_page_bytes.saturating_add(1_000), "{case}");
                for error in &page.damaged {
                    assert_eq!(error.kind(), ErrorKind::Corrupt);
                    damaged.push(error.key().unwrap().clone());
                }
                let next = page.next.clone();
                found.extend(page.into_results(reverse).map(|item| match item {
                    Ok(item) => item.key,
                    Err(error) => error.key().unwrap().clone(),
                }));
                let Some(next) = next else { break };
                query = query.resume(next);
            }
            let mut expected = all.clone();
            let mut expected_damaged: Vec<_> =
                if keys_only { of_deadlines.map(key).into() } else { of_values.map(key).into() };
            if reverse {
                expected.reverse();
                expected_damaged.reverse();
            }
            assert_eq!((found, damaged), (expected, expected_damaged), "{case}");
        }
    });
}

/// E-4: checks, sweeps and clears continue after a row that cannot be read.
#[test]
fn checks_sweeps_and_clears_continue_after_a_row_that_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.sqlite");
    let clock = ManualClock::new();
    block_on(async {
        let builder = SqliteStore::builder().path(&path).clock(std::sync::Arc::new(clock.clone()));
        let store = builder.sweep_interval(Duration::from_secs(100_000)).open().await.unwrap();
        for number in 0..10 {
            set(&store, &key(number), vec![7; 1_000]).await;
        }
        let minute = SetOptions::default().with_expiry(Expiry::After(Duration::from_secs(60)));
        assert!(store.set(&key("due"), "v".into(), &minute).await.unwrap().is_stored());
        let damage = r#"
            DELETE FROM "kv beside" WHERE id = (SELECT beside FROM kv WHERE key = '3');
            UPDATE kv SET value = NULL, beside = NULL WHERE key = '4';
            UPDATE kv SET version = X'' WHERE key = '5';
            INSERT INTO kv (key, deadline, deadline_check, version, checksum, value)
            VALUES (CAST(X'35ff' AS TEXT), 5, 0, X'00', 0, NULL), ('5 x', 6, 0, X'00', 0, NULL)"#;
        Connection::open(&path).unwrap().execute_batch(damage).unwrap();
        let page = store.list(&ListQuery::default()).await.unwrap();
        assert_eq!((page.items.len(), page.damaged.len(), page.next), (8, 3, None));
        let verification = store.verify().await.unwrap();
        assert_eq!((verification.entries, verification.damaged), (8, vec![key(3), key(4), key(5)]));
        assert_eq!(verification.problems.iter().filter(|problem| problem.contains("canonical")).count(), 2);
        clock.advance(Duration::from_secs(61));
        assert_eq!(store.sweep().await.unwrap(), 1);
        assert_eq!(store.clear(&kv_core::KeyPrefix::ALL).await.unwrap(), 10);
        assert_eq!(store.list(&ListQuery::default()).await.unwrap().items, Vec::new());
    });
}

/// The number of damaged files by the result of the test.
#[derive(Debug, Default)]
struct Tally {
    /// The file could not be opened.
    unopened: u32,
    /// Every entry could be read.
    whole: u32,
    /// The reads of some entries returned errors, and no entry was missing.
    errors_only: u32,
    /// Some entries were missing.
    missing: u32,
}

/// Opens a damaged file and reads every entry. Each read must return the right value or an error, and `verify` must
/// report damage if entries are missing.
async fn examine(path: &Path, expected: &HashMap<Key, Vec<u8>>, case: &str, tally: &mut Tally) {
    let store = match tokio::time::timeout(Duration::from_secs(5), SqliteStore::open(path)).await.expect(case) {
        Ok(store) => store,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{case}: {error:?}");
            tally.unopened += 1;
            return;
        }
    };
    let (mut errors, mut missing) = (0, 0);
    for (key, value) in expected {
        match store.get(key).await {
            Ok(Some(entry)) => assert_eq!(entry.value, value, "{case}: a wrong value"),
            Ok(None) => missing += 1,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Corrupt, "{case}: {error:?}");
                errors += 1;
            }
        }
    }
    let mut query = ListQuery::default();
    // If a list reads a damaged page of the file, the error has no key, and the list cannot continue.
    for _ in 0..=expected.len() {
        match store.list(&query).await {
            Ok(page) => {
                for item in page.items {
                    assert_eq!(item.entry.unwrap().value, expected[&item.key], "{case}: a wrong value in a list");
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
    let verification = tokio::time::timeout(Duration::from_secs(5), store.verify()).await.expect(case).unwrap();
    let is_sound = verification.is_sound();
    assert!(
        !is_sound || (errors == 0 && missing == 0),
        "{case}: {errors} errors and {missing} missing entries in a file that `verify` finds sound"
    );
    match (errors, missing) {
        (0, 0) => tally.whole += 1,
        (_, 0) => tally.errors_only += 1,
        _ => tally.missing += 1,
    }
    let _ = store.close().await;
}

#[test]
fn a_flipped_bit_never_gives_a_wrong_value() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.sqlite");
    block_on(async {
        let expected = create_store(&path, 2_000).await;
        let bytes = std::fs::read(&path).unwrap();
        let (mut tally, mut random) = (Tally::default(), Random::new());
        for index in 0..64 {
            let offset = bytes.len() / 64 * index + random.index(bytes.len() / 64);
            let bit = random.below(8);
            let mut damaged = bytes.clone();
            damaged[offset] ^= 1 << bit;
            let copy = folder.path().join(format!("flip-{index}.sqlite"));
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
        let expected = create_store(&path, 2_000).await;
        let bytes = std::fs::read(&path).unwrap();
        let mut tally = Tally::default();
        for index in 1..64 {
            let length = bytes.len() / 64 * index;
            let copy = folder.path().join(format!("cut-{index}.sqlite"));
            std::fs::write(&copy, &bytes[..length]).unwrap();
            examine(&copy, &expected, &format!("{length} of {} bytes", bytes.len()), &mut tally).await;
        }
        eprintln!("63 truncations: {tally:?}");
        assert_eq!(tally.whole, 0);
    });
}

/// If the log of a killed process is damaged, the store has the state of an earlier commit.
#[test]
fn a_truncated_or_damaged_log_never_gives_a_wrong_value() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.sqlite");
    block_on(async {
        let store = SqliteStore::open(&path).await.unwrap();
        for number in 0..200 {
            set(&store, &key(number), vec![7; 500]).await;
        }
        // Copies the files as they would be if the process was killed now.
        let (main, log) =
            (std::fs::read(&path).unwrap(), std::fs::read(folder.path().join("store.sqlite-wal")).unwrap());
        store.close().await.unwrap();
        let mut random = Random::new();
        for index in 0..64 {
            let copy = folder.path().join(format!("log-{index}.sqlite"));
            std::fs::write(&copy, &main).unwrap();
            let offset = log.len() / 64 * index + random.index(log.len() / 64);
            let mut damaged = log.clone();
            if index % 2 == 0 {
                damaged.truncate(offset);
            } else {
                damaged[offset] ^= 1 << random.below(8);
            }
            std::fs::write(folder.path().join(format!("log-{index}.sqlite-wal")), damaged).unwrap();
            let store = SqliteStore::open(&copy).await.unwrap();
            assert!(store.verify().await.unwrap().is_sound(), "{index}");
            // The store must have the first writes completely, and none of the later writes.
            let mut has_ended = false;
            for number in 0..200 {
                match store.get(&key(number)).await.unwrap() {
                    Some(entry) => assert!(!has_ended && entry.value == vec![7; 500], "{index}: {number}"),
                    None => has_ended = true,
                }
            }
            store.close().await.unwrap();
        }
    });
}
