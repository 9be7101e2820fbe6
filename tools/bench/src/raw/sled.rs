//! sled with the settings of kv-sled. A batch is flushed before it is acknowledged.

use std::path::Path;

use anykv::{Bytes, Key, KeyPrefix};

use super::sync::{SyncDriver, range};

#[derive(Debug)]
pub(crate) struct RawSled(sled::Db);

impl RawSled {
    pub(crate) fn open(folder: &Path) -> Self {
        let settings = sled::Config::new().path(folder.join("raw.sled")).cache_capacity(256 << 20);
        Self(settings.flush_every_ms(Some(500)).open().unwrap())
    }
}

impl SyncDriver for RawSled {
    fn name(&self) -> &'static str {
        "sled"
    }

    fn survives(&self) -> &'static str {
        "kill -9 of this process"
    }

    fn get(&self, key: &Key) -> Option<Bytes> {
        self.0.get(key.as_str()).unwrap().map(|value| Bytes::copy_from_slice(&value))
    }

    fn set_many(&self, entries: &[(Key, Bytes)]) {
        let mut batch = sled::Batch::default();
        for (key, value) in entries {
            batch.insert(key.as_str(), &value[..]);
        }
        self.0.apply_batch(batch).unwrap();
        self.0.flush().unwrap();
    }

    /// Uses `insert`, which is cheaper in sled than a batch of one.
    fn set(&self, key: &Key, value: Bytes) {
        self.0.insert(key.as_str(), &value[..]).unwrap();
        self.0.flush().unwrap();
    }

    fn remove(&self, key: &Key) {
        self.0.remove(key.as_str()).unwrap();
    }

    fn list(&self, prefix: &KeyPrefix) -> Option<usize> {
        let (from, to) = range(prefix);
        let entry = |(key, value): (sled::IVec, sled::IVec)| {
            (Key::parse(std::str::from_utf8(&key).unwrap()).unwrap(), Bytes::copy_from_slice(&value))
        };
        Some(self.0.range(from..to).take(100).map(|row| entry(row.unwrap())).collect::<Vec<_>>().len())
    }
}
