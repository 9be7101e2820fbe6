//! Making a store.

use std::sync::{Arc, Weak};
use std::time::Duration;

use kv_core::hub::Hub;
use kv_core::{Clock, Error, Result, StoreInfo, SystemClock};

use crate::bounded::{Bounded, Bounds};
use crate::capabilities::{BOUNDED_CAPABILITIES, CAPABILITIES};
use crate::config::{EvictionPolicy, MemoryConfig};
use crate::context::Context;
use crate::engine::Engine;
use crate::memory::MemoryStore;
use crate::operations::Inner;
use crate::sweep::Sweeper;
use crate::unbounded::Unbounded;

/// Chooses how a [`MemoryStore`] is made. Without a bound it is unbounded.
#[derive(Debug, Clone)]
#[must_use = "`build` makes the store"]
pub struct MemoryBuilder {
    config: MemoryConfig,
    clock: Arc<dyn Clock>,
}

impl MemoryBuilder {
    /// Takes everything but the clock from a configuration.
    pub fn config(mut self, config: MemoryConfig) -> Self {
        self.config = config;
        self
    }

    /// Sets the clock, for tests that move it. The system's unless said.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// As [`MemoryConfig::max_bytes`].
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.config.max_bytes = Some(bytes);
        self
    }

    /// As [`MemoryConfig::max_entries`].
    pub fn max_entries(mut self, entries: u64) -> Self {
        self.config.max_entries = Some(entries);
        self
    }

    /// As [`MemoryConfig::eviction_policy`].
    pub fn eviction_policy(mut self, policy: EvictionPolicy) -> Self {
        self.config.eviction_policy = Some(policy);
        self
    }

    /// As [`MemoryConfig::sweep_interval`].
    pub fn sweep_interval(mut self, interval: Duration) -> Self {
        self.config.sweep_interval = interval;
        self
    }

    /// Makes the store.
    ///
    /// # Errors
    /// `Invalid` for bounds that no store can keep, an eviction policy without a bound, and an interval of zero.
    pub fn build(self) -> Result<MemoryStore> {
        let MemoryConfig { max_bytes, max_entries, eviction_policy, sweep_interval } = &self.config;
        if sweep_interval.is_zero() {
            return Err(Error::invalid("the sweep interval is zero"));
        }
        if self.config.is_bounded() {
            let bounds = Bounds::new(*max_bytes, *max_entries)?;
            let policy = eviction_policy.unwrap_or_default();
            let info = StoreInfo::new(NAME, BOUNDED_CAPABILITIES).with_limits(bounds.limits);
            return Ok(self.assemble(info, |context| Engine::Bounded(Bounded::new(context, bounds, policy))));
        }
        if eviction_policy.is_some() {
            return Err(Error::invalid("an eviction policy needs a bound: `max_bytes` or `max_entries`"));
        }
        Ok(self.build_unbounded())
    }

    pub(crate) fn build_unbounded(self) -> MemoryStore {
        let info = StoreInfo::new(NAME, CAPABILITIES);
        self.assemble(info, |context| Engine::Unbounded(Unbounded::new(context)))
    }

    fn assemble(self, info: StoreInfo, engine: impl FnOnce(Arc<Context>) -> Engine) -> MemoryStore {
        let Self { config, clock } = self;
        let inner = Arc::new_cyclic(|inner| {
            let sweeper = Sweeper::new(Weak::clone(inner), config.sweep_interval);
            let context = Arc::new(Context { clock, changes: Hub::new(), sweeper });
            Inner { info, engine: engine(context), letters: Hub::new(), is_closed: false.into() }
        });
        MemoryStore { inner }
    }
}

impl Default for MemoryBuilder {
    fn default() -> Self {
        Self { config: MemoryConfig::default(), clock: Arc::new(SystemClock) }
    }
}

/// The backend's name in errors and reports.
pub(crate) const NAME: &str = "memory";
