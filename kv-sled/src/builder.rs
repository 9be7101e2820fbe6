//! Opening a store.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kv_core::{Clock, Operation, Result, StoreInfo, SystemClock};

use crate::capabilities;
use crate::config::{SledCheck, SledConfig, SledDurability};
use crate::handle::{Inner, SledStore};
use crate::named::{NAME, named};
use crate::open;

/// Chooses how a [`SledStore`] is opened.
#[derive(Debug, Clone)]
#[must_use = "`open` opens the store"]
pub struct SledBuilder {
    config: SledConfig,
    clock: Arc<dyn Clock>,
}

impl SledBuilder {
    /// Takes everything but the clock from a configuration.
    pub fn config(mut self, config: SledConfig) -> Self {
        self.config = config;
        self
    }

    /// Sets the clock that deadlines are judged by, for tests that move it. The system's unless said.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// As [`SledConfig::durability`].
    pub fn durability(mut self, durability: SledDurability) -> Self {
        self.config.durability = durability;
        self
    }

    /// As [`SledConfig::cache_bytes`].
    pub fn cache_bytes(mut self, bytes: u64) -> Self {
        self.config.cache_bytes = bytes;
        self
    }

    /// As [`SledConfig::min_free_bytes`].
    pub fn min_free_bytes(mut self, bytes: u64) -> Self {
        self.config.min_free_bytes = bytes;
        self
    }

    /// As [`SledConfig::sweep_interval`].
    pub fn sweep_interval(mut self, interval: Duration) -> Self {
        self.config.sweep_interval = interval;
        self
    }

    /// As [`SledConfig::operation_timeout`].
    pub fn operation_timeout(mut self, timeout: Duration) -> Self {
        self.config.operation_timeout = timeout;
        self
    }

    /// As [`SledConfig::open_timeout`].
    pub fn open_timeout(mut self, timeout: Duration) -> Self {
        self.config.open_timeout = timeout;
        self
    }

    /// As [`SledConfig::check`](SledConfig#structfield.check).
    pub fn check(mut self, check: SledCheck) -> Self {
        self.config.check = check;
        self
    }

    /// Opens the store in this folder, and makes folder and store where there are none.
    ///
    /// Everything that is stored is read once and compared with what should be there, so opening takes time in proportion to
    /// it, unless [`SledBuilder::check`] says otherwise. The store works on threads of its own; it does not need the
    /// runtime that it was opened on.
    ///
    /// # Errors
    /// `Unavailable` where another store, in this process or another, has the folder open, after a second of trying;
    /// `Corrupt` for damaged files, for those of a newer layout, and for a sled database that is no store; `Invalid` for a
    /// path that is a file or a folder of something else, and for a configuration that means nothing; `Denied` and
    /// `Capacity` as the file system says.
    ///
    /// # Cancel safety
    /// A store whose opening was dropped is closed again.
    pub async fn open(self, path: impl AsRef<Path> + Send) -> Result<SledStore> {
        let Self { config, clock } = self;
        let path = path.as_ref().to_owned();
        let info = StoreInfo::new(NAME, capabilities::with(config.durability));
        let opened = async {
            config.check()?;
            open::open(config, clock, path).await
        };
        let (shared, messages) = named(Operation::Open, opened.await)?;
        Ok(SledStore { inner: Arc::new(Inner { info, shared, messages }) })
    }
}

impl Default for SledBuilder {
    fn default() -> Self {
        Self { config: SledConfig::default(), clock: Arc::new(SystemClock) }
    }
}
