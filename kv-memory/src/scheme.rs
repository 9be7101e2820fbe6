//! The URL schemes, and opening a store by URL.

use std::sync::Arc;

use kv_core::{KvStore, Result, Scheme, StoreUrl};

use crate::config::MemoryConfig;
use crate::store::MemoryStore;

/// The URL scheme `memory:`. Each opening of a URL creates a new, empty store.
pub const SCHEME: Scheme = Scheme::new(
    "memory",
    "memory:?max_bytes=64MiB&max_entries=100000&eviction_policy=lru&sweep_interval=500ms",
    |url| Box::pin(async move { Ok(Arc::new(MemoryStore::from_url(&url)?) as Arc<dyn KvStore>) }),
);

impl MemoryStore {
    /// Creates a new, empty store from a `memory:` URL. The options of the URL are the fields of [`MemoryConfig`].
    ///
    /// # Errors
    /// `Invalid` for an unknown option, an invalid value, or text between the colon and the options.
    pub fn from_url(url: &StoreUrl) -> Result<Self> {
        Self::builder().config(MemoryConfig::from_url(url)?).build()
    }
}
