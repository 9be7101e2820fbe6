//! How a store is put together: where it is, its settings and its clock.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;
use kv_core::{Clock, Error, Operation, Result, StoreUrl, SystemClock};

use crate::config::{SqliteConfig, SyncMode};
use crate::open;
use crate::statement::Table;
use crate::store::SqliteStore;

/// Where the database is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Location {
    File(PathBuf),
    Memory,
}

/// Builds a [`SqliteStore`].
///
/// # Examples
/// ```
/// use kv_sqlite::SqliteStore;
///
/// # let rt = tokio::runtime::Builder::new_current_thread().build().unwrap();
/// # rt.block_on(async {
/// # let folder = tempfile::tempdir().unwrap();
/// let users = SqliteStore::builder().path(folder.path().join("app.sqlite")).table("users").open().await?;
/// let jobs = SqliteStore::builder().path(folder.path().join("app.sqlite")).table("jobs").open().await?;
/// # let _ = (users, jobs);
/// # Ok::<(), kv_core::Error>(())
/// # }).unwrap();
/// ```
#[derive(Debug, Clone)]
#[must_use = "nothing is opened before `open`"]
pub struct SqliteBuilder {
    location: Option<Location>,
    config: SqliteConfig,
    clock: Arc<dyn Clock>,
}

impl SqliteBuilder {
    pub(crate) fn new() -> Self {
        Self { location: None, config: SqliteConfig::default(), clock: Arc::new(SystemClock) }
    }

    pub(crate) fn from_url(url: &StoreUrl) -> Result<Self> {
        if url.scheme() != crate::SCHEME.name {
            return Err(Error::invalid(format!("`{}:` is not `{}:`", url.scheme(), crate::SCHEME.name)));
        }
        let builder = Self::new().config(url.options()?);
        Ok(if url.rest() == ":memory:" { builder.in_memory() } else { builder.path(url.path()?) })
    }

    /// Keeps the store in this file. It is created where it is missing, with the folders above it.
    pub fn path(mut self, path: impl Into<PathBuf>) -> Self {
        self.location = Some(Location::File(path.into()));
        self
    }

    /// Keeps the store in memory, for as long as there is a handle.
    pub fn in_memory(mut self) -> Self {
        self.location = Some(Location::Memory);
        self
    }

    /// Takes all settings at once.
    pub fn config(mut self, config: SqliteConfig) -> Self {
        self.config = config;
        self
    }

    /// Sets [`SqliteConfig::table`].
    pub fn table(mut self, table: impl Into<String>) -> Self {
        self.config.table = table.into();
        self
    }

    /// Sets [`SqliteConfig::sync`].
    pub fn sync(mut self, sync: SyncMode) -> Self {
        self.config.sync = sync;
        self
    }

    /// Sets [`SqliteConfig::busy_timeout`].
    pub fn busy_timeout(mut self, timeout: Duration) -> Self {
        self.config.busy_timeout = timeout;
        self
    }

    /// Sets [`SqliteConfig::operation_timeout`].
    pub fn operation_timeout(mut self, timeout: Duration) -> Self {
        self.config.operation_timeout = timeout;
        self
    }

    /// Sets [`SqliteConfig::sweep_interval`].
    pub fn sweep_interval(mut self, interval: Duration) -> Self {
        self.config.sweep_interval = interval;
        self
    }

    /// Sets [`SqliteConfig::readers`].
    pub fn readers(mut self, readers: usize) -> Self {
        self.config.readers = readers;
        self
    }

    /// Sets [`SqliteConfig::max_value`], in bytes.
    pub fn max_value_bytes(mut self, bytes: u64) -> Self {
        self.config.max_value = ByteSize(bytes);
        self
    }

    /// Takes the time from this clock.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Opens the store, on any runtime or none: the store has threads of its own.
    ///
    /// # Errors
    /// - `Invalid`: no path was given, a setting is out of range, or the path is a folder.
    /// - `Denied`, `Capacity`: the file cannot be created or written, or there is no room for it.
    /// - `Unavailable`: another process holds the lock of the file for longer than the timeouts.
    /// - `Corrupt`: the file is damaged, of a newer layout, or of another program. It is left as it is.
    pub async fn open(self) -> Result<SqliteStore> {
        let opened = async {
            let Self { location, config, clock } = self;
            let location =
                location.ok_or_else(|| Error::invalid("a store needs a path, or to be in memory: none was given"))?;
            let table = Table::new(&config.table)?;
            open::open(location, table, config, clock).await
        };
        opened.await.map_err(|error: Error| error.with_operation(Operation::Open).with_backend(SqliteStore::NAME))
    }
}
