//! The store's configuration as data, and its URLs.

use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;
use kv_core::{Error, KvStore, Result, Scheme, StoreUrl};
use serde::{Deserialize, Deserializer, Serialize};

use crate::memory::MemoryStore;

/// The scheme `memory:`. Every opening makes a new, empty store.
pub const SCHEME: Scheme = Scheme::new(
    "memory",
    "memory:?max_bytes=64MiB&max_entries=100000&eviction_policy=lru&sweep_interval=500ms",
    |url| Box::pin(async move { Ok(Arc::new(MemoryStore::from_url(&url)?) as Arc<dyn KvStore>) }),
);

/// How a store is made, as a configuration file or a URL says it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct MemoryConfig {
    /// At most this many bytes of keys, values and bookkeeping, as a number or as text such as `64MiB`; the store then
    /// evicts. At least [`MemoryConfig::MIN_BYTES`].
    #[serde(deserialize_with = "bytes")]
    pub max_bytes: Option<u64>,
    /// At most this many entries; the store then evicts.
    pub max_entries: Option<u64>,
    /// What a bounded store evicts: the least recently used unless said.
    pub eviction_policy: Option<EvictionPolicy>,
    /// How long expired entries keep their memory at most, as humantime text; 500 ms unless said.
    #[serde(with = "humantime_serde")]
    pub sweep_interval: Duration,
}

/// What a bounded store evicts when it is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EvictionPolicy {
    /// What was not read or written for the longest time.
    #[default]
    Lru,
    /// What was asked for least often. It hits more often under skewed traffic, but a **fresh write may be the one that
    /// goes**, at once, when what is there is asked for more often.
    TinyLfu,
}

impl MemoryConfig {
    /// The smallest [`MemoryConfig::max_bytes`]: a value of 8 MiB, which every store takes, with its key and bookkeeping.
    pub const MIN_BYTES: u64 = crate::bounded::MIN_BYTES;

    /// The options of a `memory:` URL.
    ///
    /// # Errors
    /// `Invalid` for an unknown option, and for anything between the colon and the options.
    pub fn from_url(url: &StoreUrl) -> Result<Self> {
        if !url.rest().is_empty() {
            return Err(Error::invalid(
                "nothing stands behind `memory:` but options, such as `memory:?max_bytes=64MiB`",
            ));
        }
        url.options()
    }

    /// Whether the store evicts.
    pub fn is_bounded(&self) -> bool {
        self.max_bytes.is_some() || self.max_entries.is_some()
    }
}

impl Default for MemoryConfig {
    fn default() -> Self {
        Self { max_bytes: None, max_entries: None, eviction_policy: None, sweep_interval: Duration::from_millis(500) }
    }
}

fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    Ok(Option::<ByteSize>::deserialize(deserializer)?.map(|size| size.as_u64()))
}
