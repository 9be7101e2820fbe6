//! The settings of a store as serde data.

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
    /// A loss of power loses the last commits. The earlier commits are complete. The end of the process loses
    /// nothing, even if the process is killed.
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
    /// The name of the table, by default `kv`. The name matches `[A-Za-z_][A-Za-z0-9_]{0,62}` and does not begin with
    /// `sqlite_`. Each table of a file is a separate store.
    pub table: String,
    /// Creates the file and the table if they are missing, by default true. With false, a missing store is `Invalid`,
    /// and nothing is created. Ignored if the store is in memory, because such a store is always new.
    pub create: bool,
    /// The failures that acknowledged writes survive, by default all. Ignored if the store is in memory.
    pub sync: SyncMode,
    /// The longest time that a write waits for another process's lock on the file, by default 10 s and at most
    /// [`operation_timeout`](Self::operation_timeout). After this time the write is `Unavailable`. The time that a
    /// write waits for other handles of this process does not count.
    #[serde(with = "humantime_serde")]
    pub busy_timeout: Duration,
    /// The longest duration of a write, by default 10 s. After this time the write is `Unavailable` or `Indeterminate`.
    /// This timeout also limits opening, closing and a flush, and the time that a read waits for a connection.
    #[serde(with = "humantime_serde")]
    pub operation_timeout: Duration,
    /// The interval between sweeps of expired entries, by default 1 s.
    #[serde(with = "humantime_serde")]
    pub sweep_interval: Duration,
    /// The maximum number of connections for reads, by default 8. A connection is opened when all others are in use.
    pub readers: usize,
    /// The maximum size of a value, by default 16 MiB. The setting is at least 8 MiB and at most 512 MiB.
    pub max_value: ByteSize,
    /// The free space of the file system that is reserved for removing entries, by default 1 MiB. A write that would
    /// use this reserve is `Capacity`. A delete, a clear and a sweep may use the reserve, so that entries can be
    /// removed although the disk is full.
    pub min_free: ByteSize,
}

impl SqliteConfig {
    /// Returns the store's limits.
    ///
    /// # Errors
    /// `Invalid` if `max_value` is out of range.
    pub(crate) fn limits(&self) -> Result<Limits> {
        let (min, max) = (Limits::MIN_VALUE_BYTES, 512 << 20);
        match usize::try_from(self.max_value.as_u64()) {
            Ok(bytes) if (min..=max).contains(&bytes) => Ok(Limits::DEFAULT.with_max_value_bytes(bytes)),
            _ => Err(Error::invalid("`max_value` must be at least 8 MiB and at most 512 MiB")),
        }
    }
}

impl Default for SqliteConfig {
    fn default() -> Self {
        Self {
            table: "kv".into(),
            create: true,
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
    fn max_value_is_limited_to_its_range() {
        let config = |max_value| SqliteConfig { max_value, ..SqliteConfig::default() };
        assert!(config(ByteSize::mib(7)).limits().is_err());
        assert!(config(ByteSize::gib(1)).limits().is_err());
        assert_eq!(SqliteConfig::default().limits().unwrap(), Limits::DEFAULT);
    }
}
