//! The store's handle.

use std::fmt;
use std::sync::Arc;

use kv_core::{Result, StoreUrl};

use crate::builder::MemoryBuilder;
use crate::config::MemoryConfig;
use crate::operations::Inner;
use crate::stats::MemoryStats;

/// A key–value store in the memory of this process; clones are one store.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use kv_memory::MemoryStore;
///
/// let everything = MemoryStore::new();
/// let cache = MemoryStore::builder().max_bytes(64 << 20).sweep_interval(Duration::from_secs(5)).build()?;
/// # Ok::<(), kv_core::Error>(())
/// ```
#[derive(Clone)]
pub struct MemoryStore {
    pub(crate) inner: Arc<Inner>,
}

impl MemoryStore {
    /// An unbounded store on the system's clock, with the capabilities [`CAPABILITIES`](crate::CAPABILITIES).
    pub fn new() -> Self {
        Self::builder().build_unbounded()
    }

    /// Chooses bounds, clock and the rest first.
    pub fn builder() -> MemoryBuilder {
        MemoryBuilder::default()
    }

    /// The store that a `memory:` URL describes, each time a new one. Its options are the fields of [`MemoryConfig`].
    ///
    /// # Errors
    /// `Invalid` for an unknown or impossible option, and for anything between the colon and the options.
    pub fn from_url(url: &StoreUrl) -> Result<Self> {
        Self::builder().config(MemoryConfig::from_url(url)?).build()
    }

    /// How much the store holds, what has expired and was not swept yet included.
    pub fn stats(&self) -> MemoryStats {
        self.inner.engine.stats()
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

/// Without keys and values, for they may be secret.
impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("info", &self.inner.info).finish_non_exhaustive()
    }
}
