//! The connections to a database, and their settings with the reasons.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kv_core::{Error, Result};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, ffi};
use tokio::time::Instant;

use crate::config::{SqliteConfig, SyncMode};
use crate::error::{self, is_busy, is_open_failure};
use crate::file;
use crate::open_files::OpenFiles;
use crate::runtime::Timer;
use crate::schema::{SetupError, set_up};
use crate::statement::Table;
use crate::write_lock::WriteLock;

/// The number of prepared statements that a connection caches.
const STATEMENTS: usize = 64;

/// The interval between attempts to open the file while another process creates it.
const RETRY_INTERVAL: Duration = Duration::from_millis(5);

/// The cap of SQLite's busy timeout. SQLite takes milliseconds as an `int`, which is about 24 days.
const MAX_BUSY_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

/// The database file, as every connection to it needs it.
#[derive(Debug, Clone)]
pub(crate) struct DatabaseFile {
    path: PathBuf,
    pub(crate) busy_timeout: Duration,
    pub(crate) write_lock: WriteLock,
}

impl DatabaseFile {
    /// Opens the connection that writes. Creates the file and the table if they are missing.
    ///
    /// # Errors
    /// - `Invalid`, `Denied`, `Capacity`: the file cannot be created or opened.
    /// - `Unavailable`: other connections hold the lock for longer than the timeouts.
    /// - `Corrupt`: the file is foreign or damaged.
    pub(crate) fn open_writer(
        path: &Path,
        table: &Table,
        config: &SqliteConfig,
        timer: &Timer,
    ) -> Result<(Self, Connection, OpenFiles)> {
        let path = file::prepare(path)?;
        let write_lock = WriteLock::of(canonical(&path));
        let limit = config.operation_timeout;
        let busy_timeout = config.busy_timeout.min(limit).min(MAX_BUSY_TIMEOUT);
        let database = Self { path, busy_timeout, write_lock };
        let until = Instant::now() + busy_timeout;
        let mut guard = None;
        loop {
            match database.try_open_writer(table, config.sync) {
                // Usually the file is set up and opening needs no lock, so that the process-wide lock is taken only
                // now.
                Err(SetupError::Driver(error)) if is_busy(&error) && guard.is_none() => {
                    guard = database.write_lock.take(timer, limit);
                    if guard.is_none() {
                        return Err(Error::unavailable(format!("other handles were writing for {limit:?}")));
                    }
                }
                Err(SetupError::Driver(error)) if is_busy(&error) && Instant::now() < until => {
                    timer.sleep(RETRY_INTERVAL);
                }
                Err(SetupError::Driver(error)) if is_open_failure(&error) => {
                    let explained = file::explain_open_failure(&database.path);
                    return Err(explained.unwrap_or_else(|| error::read(error)));
                }
                Err(SetupError::Driver(error)) => return Err(error::read(error)),
                Err(SetupError::Refused(error)) => return Err(error),
                Ok((connection, files)) => return Ok((database, connection, files)),
            }
        }
    }

    /// The canonical path, which identifies the file within this process.
    pub(crate) fn canonical(&self) -> PathBuf {
        canonical(&self.path)
    }

    /// Opens a connection that only reads. It is not opened read-only, because it may have to recover the write-ahead
    /// log that a killed process left.
    pub(crate) fn open_reader(&self) -> rusqlite::Result<Connection> {
        let connection = self.connect(self.busy_timeout)?;
        connection.pragma_update(None, "query_only", true)?;
        Ok(connection)
    }

    fn try_open_writer(&self, table: &Table, sync: SyncMode) -> Result<(Connection, OpenFiles), SetupError> {
        // SQLite ignores its busy timeout while it switches to a write-ahead log, and elsewhere it cannot tell that the
        // caller has given up. So the caller of this function retries instead.
        let connection = self.connect(Duration::ZERO)?;
        set_up(&connection, table)?;
        // With a write-ahead log readers do not block the writer, and a commit is one sync instead of several.
        let mode: String = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
        if !mode.eq_ignore_ascii_case("wal") {
            return Err(Error::invalid("the file system of the database does not support a write-ahead log").into());
        }
        // FULL syncs the log in every commit. NORMAL syncs it only before a checkpoint: a loss of power loses the last
        // commits, the remaining ones are whole and in order, and the end of the process loses nothing.
        connection.pragma_update(None, "synchronous", sync.pragma())?;
        // On macOS `fsync` does not reach the medium without these settings. Elsewhere they have no effect.
        connection.pragma_update(None, "fullfsync", sync == SyncMode::EveryCommit)?;
        connection.pragma_update(None, "checkpoint_fullfsync", true)?;
        // Truncates a log that a burst of writes has enlarged, when the log restarts.
        connection.pragma_update_and_check(None, "journal_size_limit", 16 << 20, |_| Ok(()))?;
        let files = OpenFiles::of(&self.path, &connection)?;
        connection.busy_timeout(self.busy_timeout)?;
        Ok((connection, files))
    }

    fn connect(&self, busy_timeout: Duration) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        // SQLite opens a file that cannot be written for reading, and fails later without this cause.
        if connection.is_readonly("main")? {
            let text = "the database file is read-only".to_owned();
            return Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_READONLY), Some(text)));
        }
        connection.busy_timeout(busy_timeout)?;
        configure(&connection)?;
        Ok(connection)
    }
}

fn canonical(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// Opens a database in memory. It has one connection only.
pub(crate) fn open_in_memory(table: &Table) -> Result<Connection> {
    let open = || -> Result<Connection, SetupError> {
        let connection = Connection::open_in_memory()?;
        configure(&connection)?;
        set_up(&connection, table)?;
        Ok(connection)
    };
    open().map_err(|failure| match failure {
        SetupError::Driver(error) => error::read(error),
        SetupError::Refused(error) => error,
    })
}

/// Applies the settings of every connection.
fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    // Detects damaged pages early, and does not run functions that a hostile file has in its schema.
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    // A trigger or a view of a hostile file can change other rows or never end. The writer does the work of the
    // triggers in the layout. Foreign keys are off, because the table of another program may refer to ours.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, false)?;
    // Makes query plans independent of parameters. Without it SQLite prepares a statement again for each binding, which
    // costs more than a read.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    // `mmap_size` stays at SQLite's default of 0. Access to a mapped file that is truncated would end the process by a
    // signal, whereas a failed read is an error.

    // 16 MiB. SQLite's default of 2 MiB holds too few of the inner pages of a large table.
    connection.pragma_update(None, "cache_size", -16_384)
}
