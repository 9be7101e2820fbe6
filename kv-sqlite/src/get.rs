//! Reads of a single key.

use kv_core::{Entry, Key, Result};
use rusqlite::{Connection, OptionalExtension};

use crate::codec::{Stored, read_deadline};
use crate::error::read_error;
use crate::liveness::Liveness;
use crate::state::State;
use crate::statement::Statements;

impl State {
    pub(crate) async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        self.read(|connection, sql, liveness| get(connection, sql, key, liveness)).await
    }

    pub(crate) async fn contains(&self, key: &Key) -> Result<bool> {
        self.read(|connection, sql, liveness| contains(connection, sql, key, liveness)).await
    }
}

/// Returns the live entry of a key.
pub(crate) fn get(
    connection: &Connection,
    sql: &Statements,
    key: &Key,
    liveness: &mut Liveness<'_>,
) -> Result<Option<Entry>> {
    let mut statement = connection.prepare_cached(&sql.get).map_err(read_error)?;
    let found = statement.query_row([key.as_str()], |row| Ok(Stored::read(key, row, 0))).optional();
    let found = found.map_err(read_error)?.transpose()?;
    Ok(found.filter(|stored| liveness.is_live(key, stored.deadline)).map(Stored::into_entry))
}

/// True if the key has a live entry. Does not read the value of the entry.
fn contains(connection: &Connection, sql: &Statements, key: &Key, liveness: &mut Liveness<'_>) -> Result<bool> {
    let mut statement = connection.prepare_cached(&sql.deadline).map_err(read_error)?;
    let found = statement.query_row([key.as_str()], |row| Ok(read_deadline(key, row, 0))).optional();
    Ok(found.map_err(read_error)?.transpose()?.is_some_and(|deadline| liveness.is_live(key, deadline)))
}
