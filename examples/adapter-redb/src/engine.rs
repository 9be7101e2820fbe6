//! redb as an engine: one table from bytes to bytes.

use std::ops::ControlFlow;

use kv_core::adapter::CommitError;
use kv_core::adapter::engine::{ByteRange, Engine, Reads, Visit, Writes};
use kv_core::{Bytes, Result};
use redb::{Database, Durability, ReadOnlyTable, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};

use crate::error;

const TABLE: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("anykv");

/// An open database.
#[derive(Debug)]
pub(crate) struct RedbEngine {
    database: Database,
}

impl RedbEngine {
    /// Wraps a database, and creates the table in it.
    pub(crate) fn new(database: Database) -> Result<Self> {
        let transaction = database.begin_write().map_err(error::transaction)?;
        transaction.open_table(TABLE).map_err(error::table)?;
        transaction.commit().map_err(|error| match error::commit(error) {
            CommitError::NotApplied(error) | CommitError::Unknown(error) => error,
        })?;
        Ok(Self { database })
    }
}

impl Engine for RedbEngine {
    type Snapshot<'e> = Snapshot;
    type Transaction<'e> = Transaction;

    fn snapshot(&self) -> Result<Snapshot> {
        let transaction = self.database.begin_read().map_err(error::transaction)?;
        Ok(Snapshot(transaction.open_table(TABLE).map_err(error::table)?))
    }

    fn begin(&self) -> Result<Transaction> {
        let mut transaction = self.database.begin_write().map_err(error::transaction)?;
        // `sync` writes to the disk. Reads do not wait for it.
        let set = transaction.set_durability(Durability::None);
        set.map_err(|error| kv_core::Error::defect("redb refuses the durability").with_source(error))?;
        Ok(Transaction(transaction))
    }

    /// A commit with `Immediate` also makes the earlier commits durable. It has no changes of its own.
    fn sync(&self) -> Result<()> {
        let transaction = self.database.begin_write().map_err(error::transaction)?;
        transaction.commit().map_err(|error| match error::commit(error) {
            CommitError::NotApplied(error) | CommitError::Unknown(error) => error,
        })
    }
}

pub(crate) struct Snapshot(ReadOnlyTable<&'static [u8], &'static [u8]>);

impl Reads for Snapshot {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        get(&self.0, key)
    }

    fn scan(&self, range: ByteRange<'_>, reverse: bool, visit: &mut Visit<'_>) -> Result<()> {
        scan(&self.0, range, reverse, visit)
    }
}

pub(crate) struct Transaction(WriteTransaction);

impl Reads for Transaction {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        get(&self.0.open_table(TABLE).map_err(error::table)?, key)
    }

    fn scan(&self, range: ByteRange<'_>, reverse: bool, visit: &mut Visit<'_>) -> Result<()> {
        scan(&self.0.open_table(TABLE).map_err(error::table)?, range, reverse, visit)
    }
}

impl Writes for Transaction {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let mut table = self.0.open_table(TABLE).map_err(error::table)?;
        table.insert(key, value).map_err(error::storage)?;
        Ok(())
    }

    fn remove(&mut self, key: &[u8]) -> Result<()> {
        let mut table = self.0.open_table(TABLE).map_err(error::table)?;
        table.remove(key).map_err(error::storage)?;
        Ok(())
    }

    fn commit(self) -> Result<(), CommitError> {
        self.0.commit().map_err(error::commit)
    }
}

fn get(table: &impl ReadableTable<&'static [u8], &'static [u8]>, key: &[u8]) -> Result<Option<Bytes>> {
    let found = table.get(key).map_err(error::storage)?;
    Ok(found.map(|value| Bytes::copy_from_slice(value.value())))
}

fn scan(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    range: ByteRange<'_>,
    reverse: bool,
    visit: &mut Visit<'_>,
) -> Result<()> {
    let mut found = table.range::<&[u8]>(range).map_err(error::storage)?;
    while let Some(item) = if reverse { found.next_back() } else { found.next() } {
        let (key, value) = item.map_err(error::storage)?;
        if let ControlFlow::Break(()) = visit(key.value(), value.value()) {
            break;
        }
    }
    Ok(())
}
