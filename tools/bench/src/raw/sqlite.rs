//! rusqlite: a plain table with the settings of kv-sqlite.

use std::path::Path;
use std::sync::Mutex;

use anykv::sqlite::rusqlite::types::ValueRef;
use anykv::sqlite::rusqlite::{Connection, OptionalExtension, params};
use anykv::{Bytes, Key, KeyPrefix};

use super::sync::{SyncDriver, range};

const SET: &str = "INSERT INTO raw VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = ?2";

/// One connection. Each call locks the connection.
#[derive(Debug)]
pub(crate) struct RawSqlite(Mutex<Connection>);

impl RawSqlite {
    pub(crate) fn open(folder: &Path) -> Self {
        let connection = Connection::open(folder.join("raw.sqlite")).unwrap();
        let setup = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -16384;
             CREATE TABLE raw (key TEXT NOT NULL PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID";
        connection.execute_batch(setup).unwrap();
        Self(Mutex::new(connection))
    }
}

fn bytes(value: ValueRef<'_>) -> Bytes {
    Bytes::copy_from_slice(value.as_bytes().unwrap())
}

impl SyncDriver for RawSqlite {
    fn name(&self) -> &'static str {
        "rusqlite"
    }

    fn survives(&self) -> &'static str {
        "loss of power"
    }

    fn get(&self, key: &Key) -> Option<Bytes> {
        let connection = self.0.lock().unwrap();
        let mut statement = connection.prepare_cached("SELECT value FROM raw WHERE key = ?1").unwrap();
        statement.query_row([key.as_str()], |row| Ok(bytes(row.get_ref(0)?))).optional().unwrap()
    }

    fn set(&self, key: &Key, value: Bytes) {
        self.set_many(&[(key.clone(), value)]);
    }

    fn set_many(&self, entries: &[(Key, Bytes)]) {
        let connection = self.0.lock().unwrap();
        connection.execute_batch("BEGIN IMMEDIATE").unwrap();
        for (key, value) in entries {
            connection.prepare_cached(SET).unwrap().execute(params![key.as_str(), &value[..]]).unwrap();
        }
        connection.execute_batch("COMMIT").unwrap();
    }

    fn remove(&self, key: &Key) {
        self.0.lock().unwrap().execute("DELETE FROM raw WHERE key = ?1", [key.as_str()]).unwrap();
    }

    fn list(&self, prefix: &KeyPrefix) -> Option<usize> {
        let connection = self.0.lock().unwrap();
        let sql = "SELECT key, value FROM raw WHERE key >= ?1 AND key < ?2 ORDER BY key LIMIT 100";
        let mut statement = connection.prepare_cached(sql).unwrap();
        let (from, to) = range(prefix);
        let rows = statement.query_map([from, to], |row| {
            Ok((Key::parse(row.get_ref(0)?.as_str().unwrap()).unwrap(), bytes(row.get_ref(1)?)))
        });
        Some(rows.unwrap().map(Result::unwrap).collect::<Vec<_>>().len())
    }
}
