//! The builder of a store.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;
use kv_core::{Clock, Error, Operation, Result, SystemClock};

use crate::config::{SqliteConfig, SyncMode};
use crate::error::CONTEXT;
use crate::open::{self, Location};
use crate::statement::Table;
use crate::store::SqliteStore;

impl SqliteStore {
    /// Returns a builder, which takes the location, the table, the clock and the settings.
    pub fn builder() -> SqliteBuilder {
        SqliteBuilder { location: None, config: SqliteConfig::default(), clock: Arc::new(SystemClock) }
    }
}

/// Builds a [`SqliteStore`] from a location, settings and a clock.
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
    /// Keeps the store in this file. If the file or its parent directories are missing, they are created.
    pub fn path(mut self, path: impl Into<PathBuf>) -> Self {
        self.location = Some(Location::File(path.into()));
        self
    }

    /// Keeps the store in memory. The entries are lost when the store is closed or its last clone is dropped.
    pub fn in_memory(mut self) -> Self {
        self.location = Some(Location::Memory);
        self
    }

    /// Replaces all settings, including those that earlier calls of this builder have set.
    pub fn config(mut self, config: SqliteConfig) -> Self {
        self.config = config;
        self
    }

    /// Sets [`SqliteConfig::table`].
    pub fn table(mut self, table: impl Into<String>) -> Self {
        self.config.table = table.into();
        self
    }

    /// Sets [`SqliteConfig::create`].
    pub fn create(mut self, create: bool) -> Self {
        self.config.create = create;
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

    /// Sets [`SqliteConfig::min_free`], in bytes.
    pub fn min_free_bytes(mut self, bytes: u64) -> Self {
        self.config.min_free = ByteSize(bytes);
        self
    }

    /// Sets the clock for deadlines and for the sweep interval, by default [`SystemClock`].
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    pub(crate) fn into_parts(self) -> (Option<Location>, SqliteConfig) {
        (self.location, self.config)
    }

    /// Opens the store. The store works on any async runtime, because it has its own threads for timers and writes.
    ///
    /// # Errors
    /// - `Invalid`: the path is missing or cannot lead to a file, a setting is out of range, or the store does not exist
    ///   and must not be created.
    /// - `Denied`, `Capacity`: the file cannot be created or written, or the disk is full.
    /// - `Unavailable`: another process holds the lock of the file for longer than the timeouts.
    /// - `Corrupt`: the file is damaged, has a newer layout or belongs to another program, or the table has an object,
    ///   such as a trigger or an index, that this crate did not create. Then the file is not changed.
    pub async fn open(self) -> Result<SqliteStore> {
        let opened = async {
            let Self { location, config, clock } = self;
            let location =
                location.ok_or_else(|| Error::invalid("the builder has no location: set `path` or `in_memory`"))?;
            let table = Table::new(&config.table)?;
            open::open(location, table, config, clock).await
        };
        CONTEXT.operation(Operation::Open, opened.await)
    }
}
