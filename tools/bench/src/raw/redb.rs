//! redb, which syncs each commit.

use std::path::Path;

use anykv::{Bytes, Key, KeyPrefix};
use redb::{Database, ReadableDatabase, TableDefinition};

use super::sync::{SyncDriver, range};

const TABLE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("raw");

pub(crate) struct RawRedb(Database);

impl RawRedb {
    pub(crate) fn open(folder: &Path) -> Self {
        let database = Database::create(folder.join("raw.redb")).unwrap();
        let raw = Self(database);
        raw.set_many(&[]);
        raw
    }
}

impl std::fmt::Debug for RawRedb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RawRedb").finish_non_exhaustive()
    }
}

impl SyncDriver for RawRedb {
    fn name(&self) -> &'static str {
        "redb"
    }

    fn survives(&self) -> &'static str {
        "loss of power"
    }

    fn get(&self, key: &Key) -> Option<Bytes> {
        let table = self.0.begin_read().unwrap().open_table(TABLE).unwrap();
        table.get(key.as_str()).unwrap().map(|value| Bytes::copy_from_slice(value.value()))
    }

    fn set(&self, key: &Key, value: Bytes) {
        self.set_many(&[(key.clone(), value)]);
    }

    fn set_many(&self, entries: &[(Key, Bytes)]) {
        let transaction = self.0.begin_write().unwrap();
        {
            let mut table = transaction.open_table(TABLE).unwrap();
            for (key, value) in entries {
                table.insert(key.as_str(), &value[..]).unwrap();
            }
        }
        transaction.commit().unwrap();
    }

    fn remove(&self, key: &Key) {
        let transaction = self.0.begin_write().unwrap();
        transaction.open_table(TABLE).unwrap().remove(key.as_str()).unwrap();
        transaction.commit().unwrap();
    }

    fn list(&self, prefix: &KeyPrefix) -> Option<usize> {
        let table = self.0.begin_read().unwrap().open_table(TABLE).unwrap();
        let (from, to) = range(prefix);
        let rows = table.range(from.as_str()..to.as_str()).unwrap().take(100).map(Result::unwrap);
        let rows = rows.map(|(key, value)| (Key::parse(key.value()).unwrap(), Bytes::copy_from_slice(value.value())));
        Some(rows.collect::<Vec<_>>().len())
    }
}
