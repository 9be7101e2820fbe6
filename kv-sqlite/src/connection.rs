//! The connections to a database, and the reasons for their settings.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kv_core::{Error, Result};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, ffi};
use tokio::time::Instant;

use crate::config::{SqliteConfig, SyncMode};
use crate::error::{Failure, is_busy, is_open_failure, read_error};
use crate::file;
use crate::file_identity::FileIdentities;
use crate::open_files::OpenFiles;
use crate::runtime::Timer;
use crate::schema::set_up;
use crate::statement::Table;
use crate::write_lock::WriteLock;

/// The maximum number of prepared statements that a connection caches.
const MAX_CACHED_STATEMENTS: usize = 64;

/// The interval between attempts to open the file while another connection holds a lock of the file.
const RETRY_INTERVAL: Duration = Duration::from_millis(5);

/// The maximum value for SQLite's busy timeout. SQLite takes an `int` of milliseconds, which overflows after 24 days.
const MAX_BUSY_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

/// A database file: its path, and the timeout and the lock that all its connections use.
#[derive(Debug, Clone)]
pub(crate) struct DatabaseFile {
    path: PathBuf,
    pub(crate) busy_timeout: Duration,
    pub(crate) write_lock: WriteLock,
    /// The files that the writer has opened; `None` before.
    identities: Option<Arc<FileIdentities>>,
}

impl DatabaseFile {
    pub(crate) fn new(path: PathBuf, config: &SqliteConfig) -> Self {
        let write_lock = WriteLock::of(canonical(&path));
        let busy_timeout = config.busy_timeout.min(config.operation_timeout).min(MAX_BUSY_TIMEOUT);
        Self { path, busy_timeout, write_lock, identities: None }
    }

    /// Opens the connection of the writer. Creates the file and the table if they are missing, unless the settings
    /// forbid it.
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
        let mut database = Self::new(file::prepare(path, config.create)?, config);
        let limit = config.operation_timeout;
        let until = Instant::now() + database.busy_timeout;
        let mut guard = None;
        loop {
            match database.try_open_writer(table, config) {
                // The process-wide lock is taken only now, because a file that is already set up usually opens without
                // a lock.
                Err(Failure::Driver(error)) if is_busy(&error) && guard.is_none() => {
                    guard = database.write_lock.take(timer, limit);
                    if guard.is_none() {
                        return Err(Error::unavailable(format!(
                            "another handle of this process held the write lock for {limit:?}"
                        )));
                    }
                }
                Err(Failure::Driver(error)) if is_busy(&error) && Instant::now() < until => {
                    timer.sleep(RETRY_INTERVAL);
                }
                Err(Failure::Driver(error)) if is_open_failure(&error) => {
                    let explained = file::explain_open_failure(&database.path);
                    return Err(explained.unwrap_or_else(|| read_error(error)));
                }
                Err(Failure::Driver(error)) => return Err(read_error(error)),
                Err(Failure::Refused(error)) => return Err(error),
                Ok((connection, files)) => {
                    database.identities = Some(Arc::clone(&files.identities));
                    return Ok((database, connection, files));
                }
            }
        }
    }

    /// Checks that the path leads to the files that the writer has opened.
    ///
    /// # Errors
    /// The errors of [`FileIdentities::check`].
    pub(crate) fn check_in_place(&self) -> Result<()> {
        self.identities.as_ref().map_or(Ok(()), |identities| identities.check().map(|_| ()))
    }

    /// Returns the canonical path, which identifies the file within this process.
    pub(crate) fn canonical(&self) -> PathBuf {
        canonical(&self.path)
    }

    /// Opens a connection for reads. SQLite opens the file for writing too, because the connection may have to recover
    /// the write-ahead log of a killed process. `query_only` prevents other writes.
    pub(crate) fn open_reader(&self) -> rusqlite::Result<Connection> {
        let connection = self.connect(self.busy_timeout)?;
        connection.pragma_update(None, "query_only", true)?;
        Ok(connection)
    }

    /// Opens a connection for the check of a file that is not opened as a store. SQLite accepts a file whose
    /// definitions or number of pages are damaged. `query_only` prevents writes, and closing the connection does not copy
    /// the write-ahead log into the file.
    pub(crate) fn open_damaged(&self) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        connection.busy_timeout(self.busy_timeout)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_WRITABLE_SCHEMA, true)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        distrust(&connection)?;
        connection.pragma_update(None, "query_only", true)?;
        Ok(connection)
    }

    /// Returns the number of bytes of the file and of the write-ahead log together.
    pub(crate) fn bytes(&self) -> u64 {
        let mut log = self.path.as_os_str().to_owned();
        log.push("-wal");
        let length = |path: &Path| path.metadata().map_or(0, |metadata| metadata.len());
        length(&self.path) + length(Path::new(&log))
    }

    fn try_open_writer(&self, table: &Table, config: &SqliteConfig) -> Result<(Connection, OpenFiles), Failure> {
        // The busy timeout is zero, and `open_writer` retries instead, because SQLite ignores its busy timeout while it
        // switches the file to a write-ahead log.
        let connection = self.connect(Duration::ZERO)?;
        // Closing the last connection copies the write-ahead log into the file. A refused file must not change.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        set_up(&connection, table, config.create)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
        // With a write-ahead log readers do not block the writer, and a commit is one sync instead of several.
        let mode: String = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
        if !mode.eq_ignore_ascii_case("wal") {
            return Err(Error::invalid("the file system of the database does not support a write-ahead log").into());
        }
        // FULL syncs the log in every commit. NORMAL syncs the log only before a checkpoint: a loss of power loses the
        // last commits, and the end of the process loses nothing.
        connection.pragma_update(None, "synchronous", config.sync.pragma())?;
        // On macOS `fsync` does not reach the medium without these settings. Elsewhere they have no effect.
        connection.pragma_update(None, "fullfsync", config.sync == SyncMode::EveryCommit)?;
        connection.pragma_update(None, "checkpoint_fullfsync", true)?;
        // When the log restarts, SQLite truncates the log to 16 MiB, because a burst of writes may have enlarged it.
        connection.pragma_update_and_check(None, "journal_size_limit", 16 << 20, |_| Ok(()))?;
        let files = OpenFiles::of(&self.path, &connection)?;
        connection.busy_timeout(self.busy_timeout)?;
        Ok((connection, files))
    }

    fn connect(&self, busy_timeout: Duration) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        // If a file cannot be written, SQLite opens it for reading only, and a later write would fail without a reason.
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

/// Opens a database in memory. The database has only this connection.
pub(crate) fn open_in_memory(table: &Table) -> Result<Connection> {
    let open = || -> Result<Connection, Failure> {
        let connection = Connection::open_in_memory()?;
        configure(&connection)?;
        set_up(&connection, table, true)?;
        Ok(connection)
    };
    open().map_err(|failure| match failure {
        Failure::Driver(error) => read_error(error),
        Failure::Refused(error) => error,
    })
}

/// Applies the settings that all connections have in common.
fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(MAX_CACHED_STATEMENTS);
    distrust(connection)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    // Query plans do not depend on parameters. Otherwise SQLite would prepare a statement again for new parameters,
    // which takes longer than a read.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    // `mmap_size` keeps SQLite's default of 0: if a mapped file is truncated, an access ends the process by a signal,
    // whereas a read of an unmapped file returns an error.

    // 16 MiB. SQLite's default of 2 MiB is too small for the inner pages of a large table.
    connection.pragma_update(None, "cache_size", -16_384)
}

/// Applies the settings that protect from a hostile file.
fn distrust(connection: &Connection) -> rusqlite::Result<()> {
    // SQLite detects damaged pages early, and does not run functions that the schema of a hostile file calls.
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    // Triggers and views are off, because the triggers and views of a hostile file could change other rows or never
    // end. The writer does the work of our own triggers. Foreign keys are off, because a table of another program in
    // this file may refer to our table and would restrict our writes.
    for setting in [
        DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER,
        DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW,
        DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY,
    ] {
        connection.set_db_config(setting, false)?;
    }
    Ok(())
}
