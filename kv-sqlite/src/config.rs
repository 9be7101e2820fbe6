//! Settings as serde data, for a URL or a configuration file.

use std::time::Duration;

use bytesize::ByteSize;
use kv_core::{Error, Limits, Result};
use serde::{Deserialize, Serialize};

/// The failures that acknowledged writes survive. A mode that loses writes is named after the loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum SyncMode {
    /// Loses nothing: each commit is flushed to the medium before it is acknowledged.
    #[default]
    EveryCommit,
    /// Loses the last commits in a loss of power. The remaining ones are whole and in order. The end of the process,
    /// including a sudden one, loses nothing.
    LosesOnPowerCut,
}

impl SyncMode {
    /// The value of `PRAGMA synchronous`.
    pub(crate) const fn pragma(self) -> &'static str {
        match self {
            Self::EveryCommit => "FULL",
            Self::LosesOnPowerCut => "NORMAL",
        }
    }
}

/// The settings of a [`SqliteStore`](crate::SqliteStore).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct SqliteConfig {
    /// The table, by default `kv`: `[A-Za-z_][A-Za-z0-9_]{0,62}`. Each table of a file is a separate store.
    pub table: String,
    /// The failures that acknowledged writes survive. Ignored in memory.
    pub sync: SyncMode,
    /// The longest wait of a write for another process's lock on the file, by default 10 s. Then the write is
    /// `Unavailable`. [`operation_timeout`](Self::operation_timeout) caps it. It does not apply between handles of one
    /// process, which queue for the file.
    #[serde(with = "humantime_serde")]
    pub busy_timeout: Duration,
    /// The longest duration of a write in all, by default 10 s. Then the write is `Unavailable` or `Indeterminate`.
    #[serde(with = "humantime_serde")]
    pub operation_timeout: Duration,
    /// The interval between sweeps of expired entries, by default 1 s.
    #[serde(with = "humantime_serde")]
    pub sweep_interval: Duration,
    /// The maximum number of connections that read at once, by default 8. They are opened on demand.
    pub readers: usize,
    /// The size of the largest value, by default 16 MiB; at least 8 MiB and at most 512 MiB.
    pub max_value: ByteSize,
    /// The free space of the file system that is kept, by default 1 MiB. A write that would use it is `Capacity`; a
    /// delete, a clear and a sweep may use it, so that a full store can always be made smaller.
    pub min_free: ByteSize,
}

impl SqliteConfig {
    /// The store's limits.
    ///
    /// # Errors
    /// `Invalid` if `max_value` is out of range.
    pub(crate) fn limits(&self) -> Result<Limits> {
        let (min, max) = (Limits::MIN_VALUE_BYTES, 512 << 20);
        match usize::try_from(self.max_value.as_u64()) {
            Ok(bytes) if (min..=max).contains(&bytes) => Ok(Limits::DEFAULT.with_max_value_bytes(bytes)),
            _ => Err(Error::invalid("`max_value` is at least 8 MiB and at most 512 MiB")),
        }
    }
}

impl Default for SqliteConfig {
    fn default() -> Self {
        Self {
            table: "kv".into(),
            sync: SyncMode::default(),
            busy_timeout: Duration::from_secs(10),
            operation_timeout: Duration::from_secs(10),
            sweep_interval: Duration::from_secs(1),
            readers: 8,
            max_value: ByteSize(Limits::DEFAULT.max_value_bytes as u64),
            min_free: ByteSize::mib(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_value_is_limited_to_the_range() {
        let config = |max_value| SqliteConfig { max_value, ..SqliteConfig::default() };
        assert!(config(ByteSize::mib(7)).limits().is_err());
        assert!(config(ByteSize::gib(1)).limits().is_err());
        assert_eq!(SqliteConfig::default().limits().unwrap(), Limits::DEFAULT);
    }
}
