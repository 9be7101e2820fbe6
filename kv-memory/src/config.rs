//! The settings of a store as serde data.

use std::time::Duration;

use bytesize::ByteSize;
use kv_core::{Error, Result, StoreUrl};
use serde::{Deserialize, Deserializer, Serialize};

use crate::bounds;

/// The settings of a store. The settings can come from a configuration file or from a URL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct MemoryConfig {
    /// The maximum number of bytes of all keys, values and bookkeeping together, as a number or as text such as
    /// `64MiB`. It must be at least [`MemoryConfig::MIN_BYTES`]. The store evicts entries to keep this bound. The
    /// default is no bound.
    #[serde(deserialize_with = "bytes")]
    pub max_bytes: Option<u64>,
    /// The maximum number of entries. The store evicts entries to keep this bound. The default is no bound.
    pub max_entries: Option<u64>,
    /// The choice of the entries that a bounded store evicts. The default is [`EvictionPolicy::Lru`].
    pub eviction_policy: Option<EvictionPolicy>,
    /// The interval of the background sweeper, as humantime text: the longest time from the deadline of an entry until
    /// its memory is freed. The default is 500 ms.
    #[serde(with = "humantime_serde")]
    pub sweep_interval: Duration,
}

/// The choice of the entries that a full store evicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EvictionPolicy {
    /// Evicts the least recently used entry. Every read and every write of an entry is a use.
    #[default]
    Lru,
    /// Evicts the least frequently used entry. The hit rate is higher if some keys are used much more often than
    /// others. But the store may evict **the entry that was just written**, at once, if the other entries are used more
    /// often.
    TinyLfu,
}

impl MemoryConfig {
    /// The minimum of [`MemoryConfig::max_bytes`], slightly more than 8 MiB. This bound leaves room for one entry with
    /// a value of 8 MiB, which every store must accept.
    pub const MIN_BYTES: u64 = bounds::MIN_BYTES;

    /// Reads the options of a `memory:` URL.
    ///
    /// # Errors
    /// `Invalid` for an unknown option, an invalid value, or text between the colon and the options.
    pub fn from_url(url: &StoreUrl) -> Result<Self> {
        if !url.rest().is_empty() {
            return Err(Error::invalid(
                "a `memory:` URL has nothing but options after the colon, such as `memory:?max_bytes=64MiB`",
            ));
        }
        url.options()
    }

    /// True if `max_bytes` or `max_entries` is set, so that the store evicts entries.
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
