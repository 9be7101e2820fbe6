//! The settings of a store as serde data.

use std::time::Duration;

use bytesize::ByteSize;
use kv_core::{Error, Result, StoreUrl};
use serde::{Deserialize, Deserializer, Serialize};

use crate::bounds;

/// The settings of a store, as a configuration file or a URL gives them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct MemoryConfig {
    /// The upper bound for keys, values and bookkeeping together, in bytes: a number, or text such as `64MiB`. A store
    /// with a bound evicts entries. At least [`MemoryConfig::MIN_BYTES`].
    #[serde(deserialize_with = "bytes")]
    pub max_bytes: Option<u64>,
    /// The upper bound for the number of entries. A store with a bound evicts entries.
    pub max_entries: Option<u64>,
    /// The order in which a bounded store evicts entries; the default is [`EvictionPolicy::Lru`].
    pub eviction_policy: Option<EvictionPolicy>,
    /// The longest time from the deadline of an entry until its memory is freed, as humantime text; the default is 500
    /// ms.
    #[serde(with = "humantime_serde")]
    pub sweep_interval: Duration,
}

/// The order in which a full store evicts entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EvictionPolicy {
    /// Evicts the least recently used entry. Reads and writes are uses.
    #[default]
    Lru,
    /// Evicts the least frequently used entry. The hit rate is higher under skewed traffic, but the store may evict
    /// **the entry that was just written**, at once, if the other entries are used more often.
    TinyLfu,
}

impl MemoryConfig {
    /// The smallest [`MemoryConfig::max_bytes`]: the largest value that every store must accept, 8 MiB, with its key
    /// and bookkeeping.
    pub const MIN_BYTES: u64 = bounds::MIN_BYTES;

    /// Reads the options of a `memory:` URL.
    ///
    /// # Errors
    /// `Invalid` for an unknown option, or text between the colon and the options.
    pub fn from_url(url: &StoreUrl) -> Result<Self> {
        if !url.rest().is_empty() {
            return Err(Error::invalid(
                "a `memory:` URL has nothing but options after the colon, such as `memory:?max_bytes=64MiB`",
            ));
        }
        url.options()
    }

    /// True if the store has a bound and evicts entries.
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
