//! The layout of the file, with its reasons.
//!
//! Layout 1 has these parts for each namespace:
//! - A table of rows, clustered by the canonical text of the key; the byte order of the text is the order of the keys.
//!   It is `WITHOUT ROWID`: a read descends one tree and not two, and a list reads neighbouring rows.
//! - A table `beside` for large values, by number. The writer removes a value together with its row; the triggers that
//!   do the same are for earlier versions of this crate, because this version runs no triggers. Large values are not in
//!   the rows, because in a clustered tree a row of a kilobyte takes a page of its own: measured, values of 1,000
//!   bytes took 4.6 times their size, and were read and written at a quarter of the rate. In a table of their own they
//!   do not affect neighbouring rows, whatever their size.
//! - An index of deadlines, of the rows that have one, for the sweeper.
//! - The change log and the table of watcher leases, which `change_log.rs` describes.
//!
//! `application_id` marks the file as ours and `user_version` is the number of the layout. Both are written before the
//! file is switched to a write-ahead log, so that the first page alone identifies the file.

use kv_core::{Error, Result};
use rusqlite::{Connection, OptionalExtension};

use crate::foreign;
use crate::statement::Table;

/// `akv1` in ASCII. It distinguishes a file of this crate from those of other programs.
pub(crate) const APPLICATION_ID: i32 = 0x616b_7631;

/// The layout that this version writes.
const LAYOUT: i32 = 1;

/// The reason for which a database could not be set up.
#[derive(Debug)]
pub(crate) enum SetupError {
    /// SQLite failed.
    Driver(rusqlite::Error),
    /// The file or the table is not usable for this store.
    Refused(Error),
}

impl From<rusqlite::Error> for SetupError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Driver(error)
    }
}

impl From<Error> for SetupError {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

/// Creates layout and table if they are missing.
///
/// # Errors
/// `Corrupt` for a foreign file, a foreign object on the table or another layout, and `Invalid` for a table that differs from another one in case
/// only.
pub(crate) fn set_up(connection: &Connection, table: &Table) -> Result<(), SetupError> {
    // A deferred transaction takes no write lock, so that a file that is set up already opens while another process
    // writes.
    if transact(connection, || is_set_up(connection, table))? {
        return Ok(());
    }
    transact(connection, || {
        // `auto_vacuum` allows free pages to be returned to the file system. It has an effect only before the first
        // page is written, which `BEGIN IMMEDIATE` would do. The statement itself takes the write lock.
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        // Checked again under the lock: another process may have set the file up since.
        if is_set_up(connection, table)? { Ok(()) } else { create(connection, table).map_err(SetupError::from) }
    })
}

fn transact<T>(connection: &Connection, work: impl FnOnce() -> Result<T, SetupError>) -> Result<T, SetupError> {
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

fn is_set_up(connection: &Connection, table: &Table) -> Result<bool, SetupError> {
    let pragma = |name: &str| connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i32>(0));
    let (id, layout) = (pragma("application_id")?, pragma("user_version")?);
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
    // SQLite compares table names without case. Two namespaces must not share one table.
    let mut statement =
        connection.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name = ?1 COLLATE NOCASE")?;
    let name = statement.query_row([table.as_str()], |row| row.get::<_, String>(0)).optional()?;
    if name.as_ref().is_some_and(|name| name != table.as_str()) {
        return Err(Error::invalid("the file has a table whose name differs in case only").into());
    }
    if let Some(object) = foreign::find(connection, table)?.first() {
        return Err(object.to_error().into());
    }
    Ok(name.is_some())
}

fn create(connection: &Connection, table: &Table) -> rusqlite::Result<()> {
    connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    connection.pragma_update(None, "user_version", LAYOUT)?;
    connection.execute_batch(&table.definitions().join(";"))
}

impl Table {
    /// The definitions of the objects of a store. SQLite keeps their text, and [`foreign`] compares it.
    pub(crate) fn definitions(&self) -> [String; 7] {
        let (name, beside, index) = (self.as_str(), self.beside(), self.index());
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
