//! Files with foreign objects, which this crate did not create. The objects are refused and reported, and never run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kv_core::{DeleteOptions, ErrorKind, Key, KvStore, SetOptions};
use kv_sqlite::SqliteStore;
use kv_sqlite::rusqlite::Connection;
use kv_sqlite::rusqlite::config::DbConfig;

mod support;
use support::block_on;

/// A query that never ends.
const ENDLESS: &str = "WITH RECURSIVE c (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c";

fn key(segment: &str) -> Key {
    Key::new([segment]).unwrap()
}

async fn set(store: &SqliteStore, segment: &str, value: impl Into<kv_core::Bytes>) -> kv_core::Result<()> {
    let set = async { store.set(&key(segment), value.into(), &SetOptions::default()).await.map(|_| ()) };
    tokio::time::timeout(Duration::from_secs(5), set).await.expect("the write does not end")
}

/// Opens a store with the entries `a` and `b`, and a large entry `large`.
async fn open_filled(path: &Path) -> SqliteStore {
    let store = SqliteStore::open(path).await.unwrap();
    for name in ["a", "b"] {
        set(&store, name, "v").await.unwrap();
    }
    set(&store, "large", vec![7; 5_000]).await.unwrap();
    store
}

fn run(path: &Path, sql: &str) {
    Connection::open(path).unwrap().execute_batch(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
}

/// Runs statements as [`run`] does. These statements may forge the schema.
fn run_forging(path: &Path, sql: &str) {
    let connection = Connection::open(path).unwrap();
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, false).unwrap();
    connection.execute_batch(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
}

#[test]
fn a_foreign_object_on_the_table_is_refused_and_the_error_names_the_kind_of_object() {
    let deleting = "BEGIN DELETE FROM kv WHERE key <> 'sekret'; END";
    let endless = format!("BEGIN {ENDLESS}; END");
    let cases = [
        (format!("CREATE TRIGGER sekret AFTER INSERT ON kv {deleting}"), "a trigger"),
        (format!("CREATE TRIGGER sekret AFTER UPDATE ON kv {endless}"), "a trigger"),
        (format!("CREATE TRIGGER sekret AFTER INSERT ON \"kv beside\" {deleting}"), "a trigger"),
        (format!("CREATE TRIGGER sekret AFTER INSERT ON \"kv changes\" {deleting}"), "a trigger"),
        (format!("CREATE TRIGGER sekret AFTER INSERT ON \"kv watchers\" {deleting}"), "a trigger"),
        (
            format!(r#"DROP TRIGGER "kv removed"; CREATE TRIGGER "kv removed" AFTER DELETE ON kv {deleting}"#),
            "a trigger",
        ),
        ("CREATE INDEX sekret ON kv (version)".into(), "an index"),
        ("CREATE UNIQUE INDEX sekret ON kv (checksum)".into(), "an index"),
        ("CREATE INDEX sekret ON kv (hex(version))".into(), "an index on an expression"),
        (
            r#"DROP INDEX "kv deadline"; CREATE INDEX "kv deadline" ON kv (abs(deadline)) WHERE deadline IS NOT NULL"#
                .into(),
            "an index on an expression",
        ),
        (format!("DROP TABLE kv; CREATE VIEW kv AS {ENDLESS}"), "a view"),
        ("CREATE VIEW KV_ AS SELECT 'sekret'; DROP TABLE \"kv beside\"; CREATE VIEW \"KV beside\" AS SELECT 'sekret'".into(), "a view"),
        ("ALTER TABLE kv ADD COLUMN sekret INTEGER AS (abs(checksum)) VIRTUAL".into(), "a generated column"),
        ("ALTER TABLE kv ADD COLUMN sekret INTEGER CHECK (sekret IS NULL)".into(), "a CHECK constraint"),
        (
            r#"ALTER TABLE kv ADD COLUMN sekret INTEGER REFERENCES "kv beside" (id) ON DELETE CASCADE"#.into(),
            "a foreign key",
        ),
        ("ALTER TABLE kv ADD COLUMN sekret INTEGER".into(), "a changed table"),
        ("DROP TABLE kv; CREATE VIRTUAL TABLE kv USING fts5 (key, value)".into(), "a virtual table"),
    ];
    for (sql, kind) in cases {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.sqlite");
        block_on(async {
            open_filled(&path).await.close().await.unwrap();
            run(&path, &sql);
            let error = SqliteStore::open(&path).await.expect_err(&sql);
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{sql}: {error}");
            let text = error.to_string();
            assert!(text.contains(kind) && !text.contains("sekret"), "{sql}: {text}");
            let (found, entries) = verify(&path).await.expect(&sql);
            let problems = found.problems.join("; ");
            assert!(problems.contains(kind) && !problems.contains("sekret"), "{sql}: {problems}");
            // Reading the rows runs neither a trigger nor an index. Other objects may run, so their rows are not read.
            let is_read = ["a trigger", "an index", "an index on an expression"].contains(&kind);
            assert_eq!(entries, if is_read { 3 } else { 0 }, "{sql}: {problems}");
            assert_eq!(found.entries, entries, "{sql}");
        });
    }
}

/// Verifies the file by its URL. Returns the report and the number of salvaged entries.
async fn verify(path: &Path) -> kv_core::Result<(kv_core::Verification, u64)> {
    let url: kv_core::StoreUrl = format!("sqlite:{}", path.display()).parse().unwrap();
    let entries = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&entries);
    let take = Box::new(move |_, _| {
        counter.fetch_add(1, Ordering::Relaxed);
        Ok(())
    });
    let verifying = (kv_sqlite::SCHEME.verify.unwrap())(url, take);
    let found = tokio::time::timeout(Duration::from_secs(10), verifying).await.expect("the check does not end")?;
    Ok((found, entries.load(Ordering::Relaxed)))
}

/// Files whose schema another program forged, some of them in ways that SQLite itself does not write.
#[test]
fn a_forged_schema_is_refused_and_reported() {
    let forge = |change: &str| format!("PRAGMA writable_schema = ON; {change}; PRAGMA writable_schema = OFF");
    let rewrite = |name: &str, from: &str, to: &str| {
        forge(&format!("UPDATE sqlite_schema SET sql = replace(sql, '{from}', '{to}') WHERE name = '{name}'"))
    };
    let cases = [
        // Another kind of table under the store's names.
        "DROP TABLE kv; CREATE TABLE kv (key TEXT NOT NULL PRIMARY KEY, sekret BLOB) STRICT".to_owned(),
        r#"DROP TABLE "kv beside"; CREATE TABLE "kv beside" (id INTEGER PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID"#.into(),
        r#"DROP TABLE "kv changes"; CREATE TABLE "kv changes" (sequence INTEGER PRIMARY KEY, key TEXT, origin INTEGER) STRICT"#.into(),
        r#"DROP TABLE "kv watchers"; CREATE VIRTUAL TABLE "kv watchers" USING fts5 (id, expires)"#.into(),
        "DROP TABLE kv; CREATE VIRTUAL TABLE kv USING rtree (key, low, high)".into(),
        // Definitions that differ from the tree that they describe.
        rewrite("kv", ", WITHOUT ROWID", ""),
        rewrite("kv", "key TEXT", "key TEXT COLLATE NOCASE"),
        rewrite("kv", "value BLOB", "value BLOB DEFAULT (hex(zeroblob(500000000)))"),
        rewrite("kv beside", "value BLOB NOT NULL", "value BLOB NOT NULL ON CONFLICT REPLACE"),
        // Text that is no definition, and columns of `sqlite_schema` with other types.
        forge("UPDATE sqlite_schema SET sql = 'CREATE TABLE kv (sekret' WHERE name = 'kv'"),
        forge("UPDATE sqlite_schema SET sql = x'00ff' WHERE name = 'kv'"),
        forge("UPDATE sqlite_schema SET sql = NULL WHERE name = 'kv'"),
        forge("UPDATE sqlite_schema SET type = x'ff', tbl_name = 7 WHERE name = 'kv beside'"),
        forge("UPDATE sqlite_schema SET sql = sql || char(0) || ' sekret' WHERE name = 'kv'"),
        forge("UPDATE sqlite_schema SET rootpage = 1000000 WHERE name = 'kv'"),
        forge("UPDATE sqlite_schema SET rootpage = -5 WHERE name = 'kv'"),
        forge("INSERT INTO sqlite_schema SELECT * FROM sqlite_schema WHERE name = 'kv'"),
    ];
    for sql in cases {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.sqlite");
        block_on(async {
            open_filled(&path).await.close().await.unwrap();
            run_forging(&path, &sql);
            let before = std::fs::read(&path).unwrap();
            match SqliteStore::open(&path).await {
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Corrupt, "{sql}: {error}");
                    assert!(!error.to_string().contains("sekret"), "{sql}: {error}");
                }
                Ok(_) => panic!("{sql}: the file opened"),
            }
            let (found, _) = verify(&path).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
            assert!(!found.is_sound(), "{sql}");
            assert!(!found.problems.join("; ").contains("sekret"), "{sql}: {found:?}");
            assert!(std::fs::read(&path).unwrap() == before, "{sql}: the check changed the file");
        });
    }
}

/// The foreign object is only in the write-ahead log, as after a crash of the program that created it.
#[test]
fn a_refused_file_and_its_write_ahead_log_are_not_changed() {
    for sql in [
        "CREATE TRIGGER t AFTER INSERT ON kv BEGIN DELETE FROM kv; END",
        "ALTER TABLE kv ADD COLUMN g TEXT AS (hex(key)) VIRTUAL",
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.sqlite");
        block_on(async {
            open_filled(&path).await.close().await.unwrap();
            let connection = Connection::open(&path).unwrap();
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
            connection.execute_batch(sql).unwrap();
            drop(connection);
            let files =
                || ["store.sqlite", "store.sqlite-wal"].map(|name| std::fs::read(folder.path().join(name)).unwrap());
            let before = files();
            assert!(!before[1].is_empty());
            assert_eq!(SqliteStore::open(&path).await.err().unwrap().kind(), ErrorKind::Corrupt, "{sql}");
            assert!(files() == before, "{sql}: opening changed the files");
            assert!(!verify(&path).await.unwrap().0.is_sound(), "{sql}");
            assert!(files() == before, "{sql}: the check changed the files");
        });
    }
}

#[test]
fn a_forged_number_of_pages_is_refused_without_taking_memory_or_time() {
    for (offset, bytes) in [
        // The number of pages of the database.
        (28, 0xffff_fffe_u32.to_be_bytes()),
        (28, 0_u32.to_be_bytes()),
        // The first page and the number of the free pages.
        (32, 0x7fff_ffff_u32.to_be_bytes()),
        (36, 0xffff_ffff_u32.to_be_bytes()),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.sqlite");
        block_on(async {
            open_filled(&path).await.close().await.unwrap();
            let mut file = std::fs::read(&path).unwrap();
            file[offset..offset + 4].copy_from_slice(&bytes);
            // SQLite uses the number of pages only if this counter equals the file change counter.
            let counter: [u8; 4] = file[24..28].try_into().unwrap();
            file[92..96].copy_from_slice(&counter);
            std::fs::write(&path, &file).unwrap();
            let context = format!("{bytes:?} at {offset}");
            // SQLite ignores a number of pages of zero, and computes it from the length of the file.
            let is_repaired = offset == 28 && bytes == [0; 4];
            let (found, entries) = verify(&path).await.unwrap_or_else(|error| panic!("{context}: {error:?}"));
            assert_eq!(found.is_sound(), is_repaired, "{context}: {found:?}");
            if offset != 28 || is_repaired {
                assert_eq!(entries, 3, "{context}");
            }
        });
    }
}

#[test]
fn objects_on_other_tables_of_the_file_are_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.sqlite");
    block_on(async {
        open_filled(&path).await.close().await.unwrap();
        run(
            &path,
            "CREATE TABLE theirs (k TEXT REFERENCES kv (key) ON DELETE RESTRICT, n INTEGER CHECK (n > 0));
             CREATE INDEX theirs_index ON theirs (hex(k));
             CREATE TRIGGER theirs_trigger AFTER INSERT ON theirs BEGIN DELETE FROM theirs; END;
             CREATE VIEW theirs_view AS SELECT 1;
             PRAGMA foreign_keys = OFF;
             INSERT INTO theirs VALUES ('a', 1)",
        );
        let store = SqliteStore::open(&path).await.unwrap();
        assert!(store.delete(&key("a"), &DeleteOptions::default()).await.unwrap().is_deleted());
        assert!(store.verify().await.unwrap().is_sound());
    });
}

#[test]
fn a_trigger_that_appears_while_the_file_is_open_does_not_run_and_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.sqlite");
    block_on(async {
        let store = open_filled(&path).await;
        run(
            &path,
            &format!(
                "CREATE TRIGGER sekret AFTER INSERT ON kv BEGIN DELETE FROM kv WHERE key <> new.key; END;
                 CREATE TRIGGER endless AFTER UPDATE ON kv BEGIN {ENDLESS}; END;
                 CREATE TRIGGER restoring AFTER DELETE ON kv BEGIN SELECT RAISE (ABORT, 'no'); END;"
            ),
        );
        set(&store, "new", "v").await.unwrap();
        set(&store, "a", "w").await.unwrap();
        assert!(store.delete(&key("b"), &DeleteOptions::default()).await.unwrap().is_deleted());
        let page = store.list(&kv_core::ListQuery::default()).await.unwrap();
        let keys: Vec<_> = page.items.into_iter().map(|item| item.key).collect();
        assert_eq!(keys, [key("a"), key("large"), key("new")]);
        let verification = store.verify().await.unwrap();
        assert!(!verification.is_sound());
        let problems = verification.problems.join("; ");
        assert!(problems.contains("a trigger") && !problems.contains("sekret"), "{problems}");
    });
}

#[test]
fn an_object_that_sqlite_would_run_stops_writes_when_it_appears_while_the_file_is_open() {
    for (sql, undo) in [
        ("CREATE INDEX sekret ON kv (hex(version))", "DROP INDEX sekret"),
        ("ALTER TABLE kv ADD COLUMN sekret INTEGER CHECK (sekret IS NULL)", "ALTER TABLE kv DROP COLUMN sekret"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.sqlite");
        block_on(async {
            let store = open_filled(&path).await;
            run(&path, sql);
            for _ in 0..2 {
                let error = set(&store, "new", "v").await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Corrupt, "{sql}: {error}");
                assert!(!error.to_string().contains("sekret"), "{error}");
            }
            assert!(!store.verify().await.unwrap().is_sound());
            assert_eq!(store.get(&key("a")).await.unwrap().unwrap().value, "v");
            run(&path, undo);
            if undo.starts_with("DROP INDEX") {
                set(&store, "new", "v").await.unwrap();
                assert!(store.verify().await.unwrap().is_sound());
            }
        });
    }
}

#[test]
fn a_view_that_replaces_the_table_while_the_file_is_open_does_not_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.sqlite");
    block_on(async {
        let store = open_filled(&path).await;
        run(&path, &format!("DROP TABLE kv; CREATE VIEW kv AS {ENDLESS}"));
        let get = tokio::time::timeout(Duration::from_secs(5), store.get(&key("a"))).await.unwrap();
        assert_eq!(get.unwrap_err().kind(), ErrorKind::Corrupt);
        assert_eq!(set(&store, "a", "w").await.unwrap_err().kind(), ErrorKind::Corrupt);
    });
}
