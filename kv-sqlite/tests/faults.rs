//! Foreign and unusable files and paths, missing file descriptors, and other users of the file.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may panic")]
#![allow(clippy::needless_pass_by_value, reason = "shorter to call")]

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use kv_core::{ErrorKind, Key, KvStore, SetOptions};
use kv_sqlite::{SqliteStore, rusqlite};
use rusqlite::Connection;
use rusqlite::config::DbConfig;

mod support;
use support::{block_on, child, test};

fn main() {
    let tests = vec![
        test("a_foreign_database_is_corrupt_and_not_changed", a_foreign_database_is_corrupt_and_not_changed),
        test(
            "a_file_without_a_database_is_corrupt_and_not_changed",
            a_file_without_a_database_is_corrupt_and_not_changed,
        ),
        test("a_newer_layout_is_corrupt", a_newer_layout_is_corrupt),
        test("a_file_of_the_first_layout_is_readable", a_file_of_the_first_layout_is_readable),
        test("a_path_that_cannot_be_a_file_is_invalid", a_path_that_cannot_be_a_file_is_invalid),
        test("missing_directories_are_created_for_the_owner_only", missing_directories_are_created_for_the_owner_only),
        test("a_path_with_special_characters_is_a_file", a_path_with_special_characters_is_a_file),
        test("tables_that_differ_in_case_only_are_invalid", tables_that_differ_in_case_only_are_invalid),
        test("tables_of_one_file_are_separate_stores", tables_of_one_file_are_separate_stores),
        test(
            "a_lack_of_file_descriptors_is_an_error_and_loses_nothing",
            a_lack_of_file_descriptors_is_an_error_and_loses_nothing,
        ),
        test("writes_fail_after_the_file_was_removed", writes_fail_after_the_file_was_removed),
        test("a_file_that_is_replaced_or_truncated_while_open_is_an_error", || {
            files_changed_while_open_are_an_error("");
        }),
        test("a_log_that_is_removed_replaced_or_truncated_while_open_is_an_error", || {
            files_changed_while_open_are_an_error("-wal");
        }),
        test("a_path_to_anything_but_a_regular_file_is_invalid", a_path_to_anything_but_a_regular_file_is_invalid),
        test("a_transaction_of_the_caller_is_not_touched", a_transaction_of_the_caller_is_not_touched),
    ];
    support::main(|name| block_on(run_child(name)), tests);
}

fn key(segment: impl ToString) -> Key {
    Key::new([segment.to_string()]).unwrap()
}

async fn set(store: &SqliteStore, key: &Key, value: impl Into<kv_core::Bytes>) {
    assert!(store.set(key, value.into(), &SetOptions::default()).await.unwrap().is_stored());
}

/// Reads every file of a directory.
fn contents(folder: &Path) -> HashMap<PathBuf, Vec<u8>> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

fn open_error(path: &Path) -> kv_core::Error {
    block_on(SqliteStore::open(path)).unwrap_err()
}

fn a_foreign_database_is_corrupt_and_not_changed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("theirs.sqlite");
    let theirs = Connection::open(&path).unwrap();
    theirs.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
    theirs.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (a); INSERT INTO t VALUES (1)").unwrap();
    // The store is opened twice: while the other program has the file open, with a log, and after it has closed the
    // file.
    let before = contents(folder.path());
    assert_eq!(open_error(&path).kind(), ErrorKind::Corrupt);
    assert!(contents(folder.path()) == before);
    drop(theirs);
    let before = contents(folder.path());
    assert!(before.len() > 1, "the log is missing");
    let error = open_error(&path);
    assert!(error.to_string().contains("another program"), "{error}");
    assert!(contents(folder.path()) == before);
}

fn a_file_without_a_database_is_corrupt_and_not_changed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes.txt");
    for length in [1, 15, 99, 100, 5_000, 100_000] {
        std::fs::write(&path, "dear diary\n".repeat(length).split_at(length).0).unwrap();
        let before = contents(folder.path());
        assert_eq!(open_error(&path).kind(), ErrorKind::Corrupt, "{length} bytes");
        assert!(contents(folder.path()) == before);
    }
}

fn a_newer_layout_is_corrupt() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.sqlite");
    block_on(async { SqliteStore::open(&path).await.unwrap().close().await.unwrap() });
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 2).unwrap();
    let error = open_error(&path);
    assert!(error.kind() == ErrorKind::Corrupt && error.to_string().contains("layout 2"), "{error}");
}

/// The first version of this crate has written the fixture. Every later version must be able to read it.
fn a_file_of_the_first_layout_is_readable() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.sqlite");
    std::fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/layout-1.sqlite"), &path).unwrap();
    block_on(async {
        let store = SqliteStore::open(&path).await.unwrap();
        assert!(store.verify().await.unwrap().is_sound());
        let entry = store.get(&Key::new(["users", "ada"]).unwrap()).await.unwrap().unwrap();
        assert_eq!(entry.value, "lovelace");
        assert_eq!(entry.version.unwrap().to_string(), "4ab8c2e0f83de06d6766803017dc93de");
        let entry = store.get(&Key::new(["session#1", ""]).unwrap()).await.unwrap().unwrap();
        let year_3000 = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(32_503_680_000);
        assert_eq!((entry.value.len(), entry.expires), (10_000, kv_core::Expires::At(year_3000)));
    });
}

fn a_path_that_cannot_be_a_file_is_invalid() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(open_error(folder.path()).kind(), ErrorKind::Invalid);
    assert_eq!(open_error(Path::new("")).kind(), ErrorKind::Invalid);
    std::fs::write(folder.path().join("file"), "x").unwrap();
    assert_eq!(open_error(&folder.path().join("file").join("store.sqlite")).kind(), ErrorKind::Invalid);
}

fn missing_directories_are_created_for_the_owner_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a").join("b").join("store.sqlite");
    block_on(async {
        let store = SqliteStore::open(&path).await.unwrap();
        set(&store, &key("k"), "v").await;
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&folder.path().join("a")), 0o700);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        for entry in std::fs::read_dir(path.parent().unwrap()).unwrap() {
            let file = entry.unwrap().path();
            assert_eq!(mode(&file), 0o600, "{}", file.display());
        }
    });
}

fn a_path_with_special_characters_is_a_file() {
    let folder = tempfile::tempdir().unwrap();
    for name in [":memory:", "file:x?mode=memory", "a b%20c#d?e&f=ü", "'; DROP TABLE kv; --"] {
        let path = folder.path().join(name);
        block_on(async {
            let store = SqliteStore::open(&path).await.unwrap();
            set(&store, &key("k"), "v").await;
            store.close().await.unwrap();
            let store = SqliteStore::open(&path).await.unwrap();
            assert_eq!(store.get(&key("k")).await.unwrap().unwrap().value, "v", "{name}");
            store.close().await.unwrap();
        });
        assert!(path.is_file());
    }
}

fn tables_that_differ_in_case_only_are_invalid() {
    let folder = tempfile::tempdir().unwrap();
    let open = |table: &str| SqliteStore::builder().path(folder.path().join("store.sqlite")).table(table).open();
    block_on(async {
        let _store = open("Users").await.unwrap();
        assert_eq!(open("users").await.unwrap_err().kind(), ErrorKind::Invalid);
        assert!(open("Users").await.is_ok());
        assert_eq!(open("sqlite_schema").await.unwrap_err().kind(), ErrorKind::Invalid);
    });
}

fn tables_of_one_file_are_separate_stores() {
    let folder = tempfile::tempdir().unwrap();
    let open = |table: &str| SqliteStore::builder().path(folder.path().join("store.sqlite")).table(table).open();
    block_on(async {
        let (app, apple) = (open("app").await.unwrap(), open("apple").await.unwrap());
        set(&app, &key("k"), "of app").await;
        assert_eq!(apple.get(&key("k")).await.unwrap(), None);
        set(&apple, &key("k"), "of apple").await;
        assert_eq!(app.clear(&kv_core::KeyPrefix::ALL).await.unwrap(), 1);
        assert_eq!(apple.get(&key("k")).await.unwrap().unwrap().value, "of apple");
    });
}

async fn run_child(name: &str) {
    assert_eq!(name, "few files");
    let path = support::path();
    // The limit of descriptors decides whether opening fails, reads or writes fail, or everything works.
    match SqliteStore::builder().path(&path).operation_timeout(Duration::from_secs(3)).open().await {
        Ok(store) => {
            let mut held_files = Vec::new();
            while let Ok(file) = std::fs::File::open("/dev/null") {
                held_files.push(file);
            }
            let written = store.set(&key("k"), "v".into(), &SetOptions::default()).await;
            let read = store.get(&key("k")).await;
            drop(held_files);
            match written {
                Ok(_) => println!("acknowledged"),
                Err(error) => println!("refused {error}"),
            }
            match read {
                Ok(entry) => println!("read {}", entry.is_some()),
                Err(error) => println!("unread {error}"),
            }
            // The descriptors are free again, so the same handle works, unless the limit is too low for an open store.
            match store.set(&key("later"), "v".into(), &SetOptions::default()).await {
                Ok(_) => println!("later {}", matches!(store.get(&key("later")).await, Ok(Some(_)))),
                Err(error) => assert!(error.is_retryable(), "{error:?}"),
            }
        }
        Err(error) => println!("refused {error}"),
    }
}

fn a_lack_of_file_descriptors_is_an_error_and_loses_nothing() {
    let mut works = 0;
    for limit in 4..24 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.sqlite");
        let command = child("few files", &path);
        let mut limited = Command::new("sh");
        limited.args(["-c", &format!("ulimit -n {limit}; exec \"$0\"")]).arg(command.get_program());
        limited.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let output = limited.output().unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        if !output.status.success() && printed.is_empty() {
            // The limit is too low for the program to start.
            continue;
        }
        assert!(output.status.success(), "{limit}: {printed} {}", String::from_utf8_lossy(&output.stderr));
        works += u32::from(printed.contains("later true"));
        block_on(async {
            let store = SqliteStore::open(&path).await.unwrap();
            let entry = store.get(&key("k")).await.unwrap();
            assert!(!printed.contains("acknowledged") || entry.is_some(), "{limit}: {printed}");
        });
    }
    assert!((1..20).contains(&works), "{works} of 20 limits let the store work");
}

fn writes_fail_after_the_file_was_removed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data").join("store.sqlite");
    block_on(async {
        let store = SqliteStore::open(&path).await.unwrap();
        set(&store, &key("k"), "v").await;
        std::fs::remove_dir_all(folder.path().join("data")).unwrap();
        let error = store.set(&key("k"), "lost".into(), &SetOptions::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.to_string().contains("removed"), "{error}");
    });
}

/// Runs commands that change the file with this suffix while a store has the file open.
fn files_changed_while_open_are_an_error(suffix: &str) {
    for command in
        ["rm FILE", "truncate -s 0 FILE", "truncate -s 5000 FILE", "cp FILE copy; mv copy FILE", "rm FILE; touch FILE"]
    {
        let folder = tempfile::tempdir().unwrap();
        let file = format!("store.sqlite{suffix}");
        block_on(async {
            let store = SqliteStore::open(folder.path().join("store.sqlite")).await.unwrap();
            for number in 0..10 {
                set(&store, &key(number), vec![7; 5_000]).await;
            }
            let command = command.replace("FILE", &file);
            let status = Command::new("sh").arg("-c").arg(&command).current_dir(folder.path()).status().unwrap();
            assert!(status.success());
            for _ in 0..2 {
                let error = store.set(&key("k"), "lost".into(), &SetOptions::default()).await.expect_err(&command);
                assert!(matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Unavailable), "{command}: {error:?}");
                assert!(error.to_string().contains("removed"), "{command}: {error}");
            }
        });
    }
}

fn a_path_to_anything_but_a_regular_file_is_invalid() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let link = |to: &str, name: &str| std::os::unix::fs::symlink(to, path(name)).unwrap();
    link("loop", "loop");
    link("missing", "dangling");
    link("/dev/null", "device");
    std::fs::create_dir(path("folder")).unwrap();
    std::fs::write(path("blocked"), "").unwrap();
    std::fs::create_dir(path("blocked-wal")).unwrap();
    assert!(Command::new("mkfifo").arg(path("fifo")).status().unwrap().success());
    assert!(Command::new("mkfifo").arg(path("pipe-shm")).status().unwrap().success());
    let _socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
    let cases = [
        ("folder", "directory"),
        ("new/", "directory"),
        ("folder/new/", "directory"),
        ("nul\0byte", "NUL"),
        ("loop", "link"),
        ("loop/store.sqlite", "link"),
        ("dangling", "link"),
        ("dangling/store.sqlite", "link"),
        ("device", "device"),
        ("fifo", "pipe"),
        ("socket", "socket"),
        ("blocked", "directory"),
        ("pipe", "pipe"),
    ];
    for (name, text) in cases {
        let error = open_error(&path(name));
        assert_eq!(error.kind(), ErrorKind::Invalid, "{name:?}: {error:?}");
        assert!(error.to_string().contains(text), "{name:?}: {error}");
    }
    for (url, text) in
        [("sqlite:a%00b", "NUL"), ("sqlite:/dev/null", "device"), ("sqlite:/tmp/missing-folder/", "directory")]
    {
        let error = block_on(SqliteStore::from_url(&url.parse().unwrap())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{url}: {error:?}");
        assert!(error.to_string().contains(text), "{url}: {error}");
    }
    assert!(!path("missing").exists());
}

fn a_transaction_of_the_caller_is_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.sqlite");
    block_on(async {
        let store = SqliteStore::builder().path(&path).busy_timeout(Duration::from_millis(100)).open().await.unwrap();
        let mine = Connection::open(&path).unwrap();
        mine.execute_batch("BEGIN IMMEDIATE; CREATE TABLE mine (a); INSERT INTO mine VALUES (1)").unwrap();
        let error = store.set(&key("k"), "v".into(), &SetOptions::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert_eq!(store.get(&key("k")).await.unwrap(), None);
        assert!(!mine.is_autocommit());
        mine.execute_batch("INSERT INTO mine VALUES (2); COMMIT").unwrap();
        set(&store, &key("k"), "v").await;
        store.close().await.unwrap();
        let count: i64 = mine.query_row("SELECT count(*) FROM mine", [], |row| row.get(0)).unwrap();
        assert_eq!(count, 2);
    });
}
