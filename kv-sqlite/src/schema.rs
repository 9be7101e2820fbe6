//! The file's layout and the settings of each connection, with their reasons.
//!
//! Layout 1: a table for each namespace, clustered by the canonical text of the key, whose order by bytes is the order of
//! keys. An index by deadline, of the rows that have one, leads the sweeper. The tables of changes and of watchers are
//! described in `changes.rs`. `application_id` marks the file as ours and `user_version` is the number of the layout; both are
//! written before the file is switched to a write-ahead log, so that the first page alone tells whose it is.
//!
//! The rows are in the tree of the keys itself (`WITHOUT ROWID`): a read is one descent, not two, and a list reads
//! neighbours. Only small values are in them. In such a tree a row of a kilobyte takes a page of its own: measured, values of
//! 1,000 bytes took 4.6 times their size and were read and written at a quarter of the rate. So a larger value is in a
//! table beside, found by number, from where triggers remove it with its row; it costs its neighbours nothing, whatever
//! its size.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kv_core::{Error, Result};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension};
use tokio::time::Instant;

use crate::config::{SqliteConfig, SyncMode};
use crate::error::{self, is_busy, is_open_failure};
use crate::file;
use crate::keeper::Timer;
use crate::statement::Table;
use crate::turn::Turns;

/// `akv1` in ASCII: what tells a file of this crate from those of other programs.
pub(crate) const APPLICATION_ID: i32 = 0x616b_7631;

/// The layout that this version writes.
const LAYOUT: i32 = 1;

/// How many prepared statements a connection keeps.
const STATEMENTS: usize = 64;

/// How long to wait before opening is tried again, while another process creates the file.
const PAUSE: Duration = Duration::from_millis(5);

/// The longest that SQLite can be told to wait is about 24 days.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// Where the database is, for every connection that is opened to it.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    path: PathBuf,
    pub(crate) busy_timeout: Duration,
    identity: Option<(u64, u64)>,
    pub(crate) turns: Turns,
}

impl Place {
    /// Opens the connection that writes, in a file that is created and set up where that is to be done.
    ///
    /// # Errors
    /// `Invalid`, `Denied`, `Capacity`, `Unavailable` where others hold the lock for too long, and `Corrupt` for what is no
    /// database of ours.
    pub(crate) fn open_writer(
        path: &Path,
        table: &Table,
        config: &SqliteConfig,
        timer: &Timer,
    ) -> Result<(Self, Connection)> {
        let path = file::prepare(path)?;
        let (identity, turns) = (file::identity(&path), Turns::of(canonical(&path)));
        let limit = config.operation_timeout;
        let busy_timeout = config.busy_timeout.min(limit).min(LONGEST);
        let place = Self { path, busy_timeout, identity, turns };
        let until = Instant::now() + busy_timeout;
        let mut turn = None;
        loop {
            match place.try_open_writer(table, config.sync) {
                // Most often everything is there, and nobody needs to be waited for. Where not, others may be creating it.
                Err(Failure::Driver(error)) if is_busy(&error) && turn.is_none() => {
                    turn = place.turns.wait(timer, limit);
                    if turn.is_none() {
                        return Err(Error::unavailable(format!("other handles were writing for {limit:?}")));
                    }
                }
                Err(Failure::Driver(error)) if is_busy(&error) && Instant::now() < until => timer.pause(PAUSE),
                Err(Failure::Driver(error)) if is_open_failure(&error) => {
                    let explained = file::explain_open_failure(&place.path);
                    return Err(explained.unwrap_or_else(|| error::read(error)));
                }
                Err(Failure::Driver(error)) => return Err(error::read(error)),
                Err(Failure::Refused(error)) => return Err(error),
                Ok(connection) => return Ok((place, connection)),
            }
        }
    }

    /// Whether the path still leads to the file that was opened: SQLite would go on writing to one that was removed, and
    /// what it acknowledges would be lost.
    pub(crate) fn is_there(&self) -> bool {
        self.identity == file::identity(&self.path)
    }

    /// The file's one name in this process.
    pub(crate) fn canonical(&self) -> PathBuf {
        canonical(&self.path)
    }

    /// Opens a connection that only reads. It may still have to recover the log that a killed process left.
    pub(crate) fn open_reader(&self) -> rusqlite::Result<Connection> {
        let connection = self.connect(self.busy_timeout)?;
        connection.pragma_update(None, "query_only", true)?;
        Ok(connection)
    }

    fn try_open_writer(&self, table: &Table, sync: SyncMode) -> Result<Connection, Failure> {
        // SQLite does not wait for a lock while it switches to a write-ahead log, as others may be doing; and where it does
        // wait, it knows nothing of who has given up.
        let connection = self.connect(Duration::ZERO)?;
        set_up(&connection, table)?;
        // Readers go on beside the writer, and a commit is one sync instead of several.
        let mode: String = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
        if !mode.eq_ignore_ascii_case("wal") {
            return Err(Error::invalid("the file system of the database does not support a write-ahead log").into());
        }
        // FULL syncs the log in every commit; NORMAL only before it is copied back, so that a loss of power takes the last
        // commits, in order and whole, while the end of the process takes none.
        connection.pragma_update(None, "synchronous", sync.pragma())?;
        // On macOS a sync reaches the medium only so; elsewhere these do nothing.
        connection.pragma_update(None, "fullfsync", sync == SyncMode::EveryCommit)?;
        connection.pragma_update(None, "checkpoint_fullfsync", true)?;
        // What a burst has made of the log is cut back to this when it starts anew.
        connection.pragma_update_and_check(None, "journal_size_limit", 16 << 20, |_| Ok(()))?;
        connection.busy_timeout(self.busy_timeout)?;
        Ok(connection)
    }

    fn connect(&self, busy_timeout: Duration) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        connection.busy_timeout(busy_timeout)?;
        settle(&connection)?;
        Ok(connection)
    }
}

fn canonical(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// Opens a database in memory, with the one connection that it can have.
pub(crate) fn open_in_memory(table: &Table) -> Result<Connection> {
    let open = || -> Result<Connection, Failure> {
        let connection = Connection::open_in_memory()?;
        settle(&connection)?;
        set_up(&connection, table)?;
        Ok(connection)
    };
    open().map_err(|failure| match failure {
        Failure::Driver(error) => error::read(error),
        Failure::Refused(error) => error,
    })
}

/// What every connection is set to.
fn settle(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    // A damaged file is found out early, and what a hostile one brings in its schema is not run.
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    // Plans do not depend on parameters: otherwise a statement is prepared anew for each binding, which costs more than a
    // read does.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    // `mmap_size` stays 0, SQLite's default: a mapped file that is cut short ends the process, a read of one is an error.
    // 16 MiB; SQLite's own 2 MiB hold too few of the inner pages of a large table.
    connection.pragma_update(None, "cache_size", -16_384)
}

/// Makes sure that the file is ours, of a layout that is known, and has the table.
fn set_up(connection: &Connection, table: &Table) -> Result<(), Failure> {
    // Most often everything is there, and nobody is locked out to find that.
    if transact(connection, || is_set_up(connection, table))? {
        return Ok(());
    }
    transact(connection, || {
        // Lets free pages be given back to the file system. It has to come before the first page is written, which an
        // immediate transaction would do, and takes the lock by itself.
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        // Another process may have come first.
        if is_set_up(connection, table)? { Ok(()) } else { create(connection, table).map_err(Failure::from) }
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

fn is_set_up(connection: &Connection, table: &Table) -> Result<bool, Failure> {
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
            "the file has layout {layout}, and this version knows layout {LAYOUT} only"
        ))
        .into());
    }
    // Tables that differ in case alone are one to SQLite, and may not become one for two namespaces.
    let mut statement =
        connection.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name = ?1 COLLATE NOCASE")?;
    match statement.query_row([table.as_str()], |row| row.get::<_, String>(0)).optional()? {
        Some(name) if name == table.as_str() => Ok(true),
        Some(_) => Err(Error::invalid("the file has a table whose name differs in the case of letters alone").into()),
        None => Ok(false),
    }
}

fn create(connection: &Connection, table: &Table) -> rusqlite::Result<()> {
    connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    connection.pragma_update(None, "user_version", LAYOUT)?;
    let (name, beside, index) = (table.as_str(), table.beside(), table.index());
    let (changes, watchers) = (table.changes(), table.watchers());
    connection.execute_batch(&format!(
        r#"
        CREATE TABLE "{name}" (
            key TEXT NOT NULL PRIMARY KEY,
            deadline INTEGER,
            deadline_check INTEGER NOT NULL,
            version BLOB NOT NULL,
            checksum INTEGER NOT NULL,
            value BLOB,
            beside INTEGER
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE "{beside}" (id INTEGER PRIMARY KEY, value BLOB NOT NULL) STRICT;
        CREATE TRIGGER "{name} overwritten" AFTER UPDATE OF beside ON "{name}" WHEN old.beside IS NOT NULL
        BEGIN DELETE FROM "{beside}" WHERE id = old.beside; END;
        CREATE TRIGGER "{name} removed" AFTER DELETE ON "{name}" WHEN old.beside IS NOT NULL
        BEGIN DELETE FROM "{beside}" WHERE id = old.beside; END;
        CREATE INDEX "{index}" ON "{name}" (deadline) WHERE deadline IS NOT NULL;
        CREATE TABLE "{changes}" (
            sequence INTEGER PRIMARY KEY AUTOINCREMENT,
            key TEXT NOT NULL,
            origin INTEGER NOT NULL
        ) STRICT;
        CREATE TABLE "{watchers}" (id INTEGER PRIMARY KEY, expires INTEGER NOT NULL) STRICT;
        "#
    ))
}

/// Why a file could not be opened.
#[derive(Debug)]
enum Failure {
    Driver(rusqlite::Error),
    Refused(Error),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Driver(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}
