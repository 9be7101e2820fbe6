//! A `KeyValueDB` over a `KvStore`.

use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use anykv::{CommitOutcome, Expiry, Key, KeyPrefix, KvStore, ListItem, ListQuery, Transaction};
use kvdb::{DBKey, DBKeyValue, DBOp, DBTransaction, DBValue, IoStats, IoStatsKind, KeyValueDB};
use tokio::runtime::Runtime;

/// Columns of byte keys in a store. Each byte of a key is a segment, so that a prefix of bytes is a prefix of segments.
#[derive(Debug)]
pub struct Database {
    store: Arc<dyn KvStore>,
    columns: u32,
    runtime: Runtime,
    /// The statistics since the start, and since the last request for [`IoStatsKind::SincePrevious`].
    stats: Mutex<(IoStats, IoStats)>,
}

impl Database {
    /// Creates a database with `columns` columns in a store. The database runs all calls on `runtime`, which must be
    /// the runtime that opened the store.
    pub fn new(store: Arc<dyn KvStore>, columns: u32, runtime: Runtime) -> Self {
        Self { store, columns, runtime, stats: Mutex::new((IoStats::empty(), IoStats::empty())) }
    }

    fn wait<T>(&self, call: impl Future<Output = anykv::Result<T>>) -> io::Result<T> {
        self.runtime.block_on(call).map_err(io::Error::other)
    }

    fn key(&self, column: u32, bytes: &[u8]) -> io::Result<Key> {
        if column >= self.columns {
            return Err(io::Error::other(format!(
                "column {column} does not exist: the database has {} columns",
                self.columns
            )));
        }
        let segments =
            std::iter::once(format!("column {column}")).chain(bytes.iter().map(|byte| format!("{byte:02x}")));
        Key::new(segments).map_err(io::Error::other)
    }

    fn count(&self, change: impl Fn(&mut IoStats)) {
        let mut stats = self.stats.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut stats.0);
        change(&mut stats.1);
    }

    fn list_below(&self, column: u32, prefix: &[u8], limit: Option<usize>) -> io::Result<Vec<DBKeyValue>> {
        let mut query = ListQuery::new(KeyPrefix::from(self.key(column, prefix)?));
        query.limit = limit;
        let mut found = Vec::new();
        loop {
            let page = self.wait(self.store.list(&query))?;
            for item in page.items {
                found.push(pair(&item)?);
            }
            match page.next.filter(|_| limit.is_none_or(|limit| found.len() < limit)) {
                Some(next) => query = query.resume(next),
                None => return Ok(found),
            }
        }
    }
}

/// Returns the bytes of a listed key, and its value.
fn pair(item: &ListItem) -> io::Result<DBKeyValue> {
    let bytes: Result<DBKey, _> = item.key.segments().skip(1).map(|segment| u8::from_str_radix(&segment, 16)).collect();
    let value = item.entry.as_ref().map(|entry| entry.value.to_vec());
    Ok((bytes.map_err(io::Error::other)?, value.unwrap_or_default()))
}

impl KeyValueDB for Database {
    fn get(&self, column: u32, key: &[u8]) -> io::Result<Option<DBValue>> {
        let stored = self.key(column, key)?;
        let found = self.wait(self.store.get(&stored))?.map(|entry| entry.value.to_vec());
        self.count(|stats| {
            stats.reads += 1;
            // The tests of `kvdb` expect that a read of a missing key counts the bytes of the key.
            stats.bytes_read += (key.len() + found.as_ref().map_or(0, Vec::len)) as u64;
        });
        Ok(found)
    }

    fn get_by_prefix(&self, column: u32, prefix: &[u8]) -> io::Result<Option<DBValue>> {
        Ok(self.list_below(column, prefix, Some(1))?.into_iter().next().map(|(_, value)| value))
    }

    fn write(&self, transaction: DBTransaction) -> io::Result<()> {
        let mut commit = Transaction::new();
        let (mut writes, mut bytes) = (0, 0);
        for operation in &transaction.ops {
            let key = self.key(operation.col(), operation.key())?;
            writes += 1;
            match operation {
                DBOp::Insert { key: own, value, .. } => {
                    bytes += own.len() + value.len();
                    commit = commit.set(key, value.clone(), Expiry::Never);
                }
                DBOp::Delete { .. } => commit = commit.delete(key),
                DBOp::DeletePrefix { col, prefix } => {
                    // The delete also removes the earlier writes of this transaction below the prefix.
                    let prefix_key = KeyPrefix::from(&key);
                    let own: Vec<Key> = commit.keys().filter(|key| prefix_key.covers(key)).cloned().collect();
                    commit = own.into_iter().fold(commit, Transaction::delete);
                    for (stored, _) in self.list_below(*col, prefix, None)? {
                        commit = commit.delete(self.key(*col, &stored)?);
                    }
                }
            }
        }
        match self.wait(self.store.commit(&commit))? {
            CommitOutcome::Committed { .. } => {}
            CommitOutcome::Refused { check } => {
                return Err(io::Error::other(format!("check {check} failed, but the transaction has no checks")));
            }
        }
        self.count(|stats| {
            stats.transactions += 1;
            stats.writes += writes;
            stats.bytes_written += bytes as u64;
        });
        Ok(())
    }

    fn iter<'a>(&'a self, column: u32) -> Box<dyn Iterator<Item = io::Result<DBKeyValue>> + 'a> {
        self.iter_with_prefix(column, &[])
    }

    fn iter_with_prefix<'a>(
        &'a self,
        column: u32,
        prefix: &'a [u8],
    ) -> Box<dyn Iterator<Item = io::Result<DBKeyValue>> + 'a> {
        match self.list_below(column, prefix, None) {
            Ok(found) => Box::new(found.into_iter().map(Ok)),
            Err(error) => Box::new(std::iter::once(Err(error))),
        }
    }

    fn io_stats(&self, kind: IoStatsKind) -> IoStats {
        let mut stats = self.stats.lock().unwrap_or_else(PoisonError::into_inner);
        match kind {
            IoStatsKind::Overall => stats.0.clone(),
            IoStatsKind::SincePrevious => std::mem::replace(&mut stats.1, IoStats::empty()),
        }
    }
}
