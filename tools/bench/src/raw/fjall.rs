//! fjall, with a sync after each batch.

use std::path::Path;

use anykv::{Bytes, Key, KeyPrefix};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::sync::{SyncDriver, range};

pub(crate) struct RawFjall {
    database: Database,
    keyspace: Keyspace,
}

impl RawFjall {
    pub(crate) fn open(folder: &Path) -> Self {
        let database = Database::builder(folder.join("raw.fjall")).open().unwrap();
        let keyspace = database.keyspace("raw", KeyspaceCreateOptions::default).unwrap();
        Self { database, keyspace }
    }
}

impl std::fmt::Debug for RawFjall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RawFjall").finish_non_exhaustive()
    }
}

impl SyncDriver for RawFjall {
    fn name(&self) -> &'static str {
        "fjall"
    }

    fn survives(&self) -> &'static str {
        "loss of power"
    }

    fn get(&self, key: &Key) -> Option<Bytes> {
        self.keyspace.get(key.as_str()).unwrap().map(|value| Bytes::copy_from_slice(&value))
    }

    fn set(&self, key: &Key, value: Bytes) {
        self.set_many(&[(key.clone(), value)]);
    }

    fn set_many(&self, entries: &[(Key, Bytes)]) {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncData));
        for (key, value) in entries {
            batch.insert(&self.keyspace, key.as_str(), &value[..]);
        }
        batch.commit().unwrap();
    }

    fn remove(&self, key: &Key) {
        self.keyspace.remove(key.as_str()).unwrap();
    }

    fn list(&self, prefix: &KeyPrefix) -> Option<usize> {
        let (from, to) = range(prefix);
        let rows = self.keyspace.range(from..to).take(100).map(|row| {
            let (key, value) = row.into_inner().unwrap();
            (Key::parse(std::str::from_utf8(&key).unwrap()).unwrap(), Bytes::copy_from_slice(&value))
        });
        Some(rows.collect::<Vec<_>>().len())
    }
}
