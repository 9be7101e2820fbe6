//! The builder of a store.

use std::sync::Arc;
use std::time::Duration;

use kv_core::{Clock, Result, SystemClock};

use crate::config::{EvictionPolicy, MemoryConfig};
use crate::open;
use crate::store::MemoryStore;

/// Configures a [`MemoryStore`]. Without a bound the store is unbounded.
#[derive(Debug, Clone)]
#[must_use = "`build` creates the store"]
pub struct MemoryBuilder {
    config: MemoryConfig,
    clock: Arc<dyn Clock>,
}

impl MemoryBuilder {
    /// Replaces all settings except the clock by those of a configuration.
    pub fn config(mut self, config: MemoryConfig) -> Self {
        self.config = config;
        self
    }

    /// Sets the clock, for tests that move the time. The default is the system clock.
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
    /// `Invalid` for a bound of zero entries or fewer bytes than [`MemoryConfig::MIN_BYTES`], an eviction policy
    /// without a bound, and a sweep interval of zero.
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
    /// Creates an unbounded store on the system clock, with the capabilities [`CAPABILITIES`](crate::CAPABILITIES).
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
