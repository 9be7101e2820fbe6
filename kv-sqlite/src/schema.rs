//! The layout of the file, and the reasons for it.
//!
//! Layout 1 has these objects for each store, that is, for each table name:
//! - A table of rows, ordered by the canonical text of the key, whose byte order is the order of the keys. The table is
//!   `WITHOUT ROWID`, so that a read descends one tree instead of two, and a list reads neighbouring rows.
//! - A table of large values, whose name ends in ` beside`. A row refers to its value by the column `beside`. Large
//!   values are not in the rows, because SQLite would store few rows per page: in a measurement, values of 1,000 bytes
//!   in the rows took 4.6 times their size, and were read and written at a quarter of the rate.
//! - Two triggers that remove a large value together with its row. Only earlier versions of this crate run them. In
//!   this version triggers are disabled, and the writer removes the values itself.
//! - An index of deadlines for the sweeper. It contains the rows that have a deadline.
//! - The change log and the table of leases. `change_log.rs` describes both.
//!
//! `application_id` marks the file as a file of this crate, and `user_version` is the number of the layout. Both are
//! written before the file is switched to a write-ahead log, so that they are in the first page of the file and not
//! only in the log.

use kv_core::{Error, Result};
use rusqlite::{Connection, OptionalExtension};

use crate::error::Failure;
use crate::foreign;
use crate::statement::Table;

/// The application id of the files of this crate: `akv1` in ASCII.
pub(crate) const APPLICATION_ID: i32 = 0x616b_7631;

/// The layout that this version writes.
const LAYOUT: i32 = 1;

/// Checks the layout of the file and the objects of the store. Creates them if they are missing and `create` is true.
///
/// # Errors
/// `Corrupt` for a foreign file, a foreign object on the table or another layout, and `Invalid` if the store is missing
/// and `create` is false, or if the name of the table differs from the name of another table only in upper and lower
/// case.
pub(crate) fn set_up(connection: &Connection, table: &Table, create: bool) -> Result<(), Failure> {
    // This transaction only reads and takes no write lock, so a file that is already set up can be opened while another
    // process writes.
    if transact(connection, || is_set_up(connection, table))? {
        return Ok(());
    }
    if !create {
        return Err(Error::invalid(format!("there is no store: the file has no table `{}`", table.as_str())).into());
    }
    transact(connection, || {
        // `auto_vacuum` allows SQLite to return free pages to the file system. It must be set before the first page is
        // written, so the transaction cannot begin with `BEGIN IMMEDIATE`, which writes that page. This statement takes
        // the write lock instead.
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        // Checked again under the write lock, because another process may have set the file up in the meantime.
        if is_set_up(connection, table)? { Ok(()) } else { create_objects(connection, table).map_err(Failure::from) }
    })
}

fn transact<T>(connection: &Connection, work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    connection.execute_batch("BEGIN")?;
    let outcome = work().and_then(|done| {
        connection.execute_batch("COMMIT")?;
        Ok(done)
    });
    if outcome.is_err() && !connection.is_autocommit() {
        connection.execute_batch("ROLLBACK")?;
    }
    outcome
}

/// True if the file is of this crate and has the layout of this version. False for an unreadable file.
pub(crate) fn is_ours(connection: &Connection) -> bool {
    let header = pragma(connection, "application_id").and_then(|id| Ok((id, pragma(connection, "user_version")?)));
    header.is_ok_and(|header| header == (APPLICATION_ID, LAYOUT))
}

fn pragma(connection: &Connection, name: &str) -> rusqlite::Result<i32> {
    connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0))
}

fn is_set_up(connection: &Connection, table: &Table) -> Result<bool, Failure> {
    let (id, layout) = (pragma(connection, "application_id")?, pragma(connection, "user_version")?);
    let objects: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if id == 0 && objects == 0 {
        return Ok(false);
    }
    if id != APPLICATION_ID {
        return Err(Error::corrupt("the file is a database of another program").into());
    }
    if layout != LAYOUT {
        return Err(Error::corrupt(format!(
            "the file has layout {layout}, and this version supports layout {LAYOUT} only"
        ))
        .into());
    }
    // SQLite ignores case in table names, and two stores must not share one table.
    let mut statement =
        connection.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name = ?1 COLLATE NOCASE")?;
    let name = statement.query_row([table.as_str()], |row| row.get::<_, String>(0)).optional()?;
    if name.as_ref().is_some_and(|name| name != table.as_str()) {
        return Err(Error::invalid("the file has a table whose name differs only in upper and lower case").into());
    }
    if let Some(object) = foreign::find(connection, table)?.first() {
        return Err(object.to_error().into());
    }
    Ok(name.is_some())
}

fn create_objects(connection: &Connection, table: &Table) -> rusqlite::Result<()> {
    connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    connection.pragma_update(None, "user_version", LAYOUT)?;
    connection.execute_batch(&table.definitions().join(";"))
}

impl Table {
    /// Returns the definitions of the objects of a store. [`foreign`] compares them with the definitions in the file,
    /// so their words must not change.
    pub(crate) fn definitions(&self) -> [String; 7] {
        let (name, beside, index) = (self.as_str(), self.large_values(), self.index());
        let (changes, watchers) = (self.changes(), self.watchers());
        [
            format!(
                r#"CREATE TABLE "{name}" (
            key TEXT NOT NULL PRIMARY KEY,
            deadline INTEGER,
            deadline_check INTEGER NOT NULL,
            version BLOB NOT NULL,
            checksum INTEGER NOT NULL,
            value BLOB,
            beside INTEGER
        ) STRICT, WITHOUT ROWID"#
            ),
            format!(r#"CREATE TABLE "{beside}" (id INTEGER PRIMARY KEY, value BLOB NOT NULL) STRICT"#),
            format!(
                r#"CREATE TRIGGER "{name} overwritten" AFTER UPDATE OF beside ON "{name}" WHEN old.beside IS NOT NULL
        BEGIN DELETE FROM "{beside}" WHERE id = old.beside; END"#
            ),
            format!(
                r#"CREATE TRIGGER "{name} removed" AFTER DELETE ON "{name}" WHEN old.beside IS NOT NULL
        BEGIN DELETE FROM "{beside}" WHERE id = old.beside; END"#
            ),
            format!(r#"CREATE INDEX "{index}" ON "{name}" (deadline) WHERE deadline IS NOT NULL"#),
            format!(
                r#"CREATE TABLE "{changes}" (
            sequence INTEGER PRIMARY KEY AUTOINCREMENT,
            key TEXT NOT NULL,
            origin INTEGER NOT NULL
        ) STRICT"#
            ),
            format!(r#"CREATE TABLE "{watchers}" (id INTEGER PRIMARY KEY, expires INTEGER NOT NULL) STRICT"#),
        ]
    }
}
