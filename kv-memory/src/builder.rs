//! The builder of a store.

use std::sync::Arc;
use std::time::Duration;

use kv_core::{Clock, Result, SystemClock};

use crate::config::{EvictionPolicy, MemoryConfig};
use crate::open;
use crate::store::MemoryStore;

/// Configures a [`MemoryStore`]. The store is unbounded unless `max_bytes` or `max_entries` is set.
#[derive(Debug, Clone)]
#[must_use = "`build` creates the store"]
pub struct MemoryBuilder {
    config: MemoryConfig,
    clock: Arc<dyn Clock>,
}

impl MemoryBuilder {
    /// Replaces all settings, except the clock, by the settings of a configuration.
    pub fn config(mut self, config: MemoryConfig) -> Self {
        self.config = config;
        self
    }

    /// Sets the clock, for tests that set the time. The default is the system clock.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Sets [`MemoryConfig::max_bytes`].
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.config.max_bytes = Some(bytes);
        self
    }

    /// Sets [`MemoryConfig::max_entries`].
    pub fn max_entries(mut self, entries: u64) -> Self {
        self.config.max_entries = Some(entries);
        self
    }

    /// Sets [`MemoryConfig::eviction_policy`].
    pub fn eviction_policy(mut self, policy: EvictionPolicy) -> Self {
        self.config.eviction_policy = Some(policy);
        self
    }

    /// Sets [`MemoryConfig::sweep_interval`].
    pub fn sweep_interval(mut self, interval: Duration) -> Self {
        self.config.sweep_interval = interval;
        self
    }

    /// Creates the store.
    ///
    /// # Errors
    /// `Invalid` if `max_entries` is zero, if `max_bytes` is less than [`MemoryConfig::MIN_BYTES`], if there is an
    /// eviction policy but no bound, or if the sweep interval is zero.
    pub fn build(self) -> Result<MemoryStore> {
        open::open(&self.config, self.clock)
    }
}

impl Default for MemoryBuilder {
    fn default() -> Self {
        Self { config: MemoryConfig::default(), clock: Arc::new(SystemClock) }
    }
}

impl MemoryStore {
    /// Creates an unbounded store with the system clock. The store has the capabilities
    /// [`CAPABILITIES`](crate::CAPABILITIES).
    pub fn new() -> Self {
        let MemoryBuilder { config, clock } = MemoryBuilder::default();
        open::open_unbounded(config.sweep_interval, clock)
    }

    /// Returns a builder with the default settings.
    pub fn builder() -> MemoryBuilder {
        MemoryBuilder::default()
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}
