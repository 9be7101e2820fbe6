//! The builder of a store.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kv_core::{Clock, Operation, Result, SystemClock};

use crate::config::{SledCheck, SledConfig, SledDurability};
use crate::error::CONTEXT;
use crate::open;
use crate::store::SledStore;

impl SledStore {
    /// Returns a builder with the default settings.
    pub fn builder() -> SledBuilder {
        SledBuilder::default()
    }

    /// Opens the store in this folder with the default settings. Creates the store if it does not exist.
    ///
    /// # Errors
    /// The errors of [`SledBuilder::open`].
    ///
    /// # Cancel safety
    /// If the future is dropped, the store is closed as soon as opening has finished.
    pub async fn open(path: impl AsRef<Path> + Send) -> Result<Self> {
        Self::builder().open(path).await
    }
}

/// Sets the options of a [`SledStore`] and opens it.
#[derive(Debug, Clone)]
#[must_use = "`open` opens the store"]
pub struct SledBuilder {
    config: SledConfig,
    clock: Arc<dyn Clock>,
}

impl SledBuilder {
    /// Sets all options but the clock from a configuration.
    pub fn config(mut self, config: SledConfig) -> Self {
        self.config = config;
        self
    }

    /// Sets the clock of deadlines and of the sweeper, for tests that set the time. The default is the system's clock.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Sets [`SledConfig::create`].
    pub fn create(mut self, create: bool) -> Self {
        self.config.create = create;
        self
    }

    /// Sets [`SledConfig::durability`].
    pub fn durability(mut self, durability: SledDurability) -> Self {
        self.config.durability = durability;
        self
    }

    /// Sets [`SledConfig::cache_bytes`].
    pub fn cache_bytes(mut self, bytes: u64) -> Self {
        self.config.cache_bytes = bytes;
        self
    }

    /// Sets [`SledConfig::min_free_bytes`].
    pub fn min_free_bytes(mut self, bytes: u64) -> Self {
        self.config.min_free_bytes = bytes;
        self
    }

    /// Sets [`SledConfig::sweep_interval`].
    pub fn sweep_interval(mut self, interval: Duration) -> Self {
        self.config.sweep_interval = interval;
        self
    }

    /// Sets [`SledConfig::operation_timeout`].
    pub fn operation_timeout(mut self, timeout: Duration) -> Self {
        self.config.operation_timeout = timeout;
        self
    }

    /// Sets [`SledConfig::open_timeout`].
    pub fn open_timeout(mut self, timeout: Duration) -> Self {
        self.config.open_timeout = timeout;
        self
    }

    /// Sets [`SledConfig::check`](SledConfig#structfield.check).
    pub fn check(mut self, check: SledCheck) -> Self {
        self.config.check = check;
        self
    }

    /// Opens the store in this folder. Creates the folder and the store if they do not exist. On Unix, only the owner
    /// can enter a folder that this call created and read the files in it.
    ///
    /// Opening reads all stored data once and compares it with the tree checksum, so it takes time in proportion to the
    /// stored data. [`SledCheck::Nothing`] skips this check. The store runs on its own threads and does not depend on
    /// the runtime that opened the store.
    ///
    /// # Errors
    /// `Unavailable` if another store, in this process or another, keeps the folder open for longer than a second, and
    /// while the system's clock is before the year 1970; `Corrupt` for damaged files, for a newer layout, and for a
    /// sled database that this crate did not write; `Invalid` for a path that is not a folder, for a folder with
    /// foreign files, for a missing store that must not be created, and for an invalid configuration; `Denied`, `Capacity` and others for errors of the file system.
    ///
    /// # Cancel safety
    /// If the future is dropped, the store is closed as soon as opening has finished.
    pub async fn open(self, path: impl AsRef<Path> + Send) -> Result<SledStore> {
        let Self { config, clock } = self;
        let path = path.as_ref().to_owned();
        let opened = async {
            config.check()?;
            open::open(config, clock, path).await
        };
        CONTEXT.operation(Operation::Open, opened.await)
    }
}

impl Default for SledBuilder {
    fn default() -> Self {
        Self { config: SledConfig::default(), clock: Arc::new(SystemClock) }
    }
}
