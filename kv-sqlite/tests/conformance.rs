//! The conformance suite on files of one process, on files of two processes, and in memory.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;

use conformance_tests::{Fresh, Suite};
use kv_core::{Error, Key, Result};
use kv_sqlite::rusqlite::{self, Connection};
use kv_sqlite::{CAPABILITIES, MEMORY_CAPABILITIES, SqliteStore};

fn main() {
    Suite::main_of([
        Suite::new("sqlite", CAPABILITIES, open)
            .with_clock()
            .with_reopen()
            .with_second_handle()
            .with_damage(|fresh, key| async move { damage(&fresh, &key) })
            .with_crash(),
        Suite::new("sqlite-memory", MEMORY_CAPABILITIES, |fresh| {
            SqliteStore::builder().in_memory().clock(fresh.clock()).open()
        })
        .with_clock(),
        // The stores of two processes use the system's clock.
        Suite::on_backend("sqlite-processes", CAPABILITIES, folder, |folder, fresh| {
            SqliteStore::builder().path(Path::new(&folder).join(fresh.name())).open()
        })
        .with_reopen()
        .in_two_processes(),
    ])
}

async fn open(fresh: Fresh) -> Result<SqliteStore> {
    let path = fresh.folder()?.join("store.sqlite");
    SqliteStore::builder().path(path).table(fresh.name()).clock(fresh.clock()).open().await
}

/// Changes the first byte of the stored value.
fn damage(fresh: &Fresh, key: &Key) -> Result<()> {
    let path = fresh.folder()?.join("store.sqlite");
    let change = || -> rusqlite::Result<usize> {
        let file = Connection::open(&path)?;
        let table = fresh.name();
        let value = "CAST('#' || substr(CAST(value AS TEXT), 2) AS BLOB)";
        file.execute(&format!("UPDATE {table} SET value = {value} WHERE key = ?"), [key.as_str()])
    };
    match change() {
        Ok(1) => Ok(()),
        result => Err(Error::unavailable(format!("the entry was not damaged: {result:?}"))),
    }
}

fn folder() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display().to_string();
    (folder, path)
}
