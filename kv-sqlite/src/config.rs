//! Settings as data, as a URL or a configuration file gives them.

use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;
use kv_core::{Capabilities, Durability, Error, KvStore, Limits, Result, Scheme, StoreUrl, Survives};
use serde::{Deserialize, Serialize};

use crate::builder::SqliteBuilder;
use crate::store::{CAPABILITIES, SqliteStore};

/// `sqlite:PATH` and `sqlite::memory:`, for a [`Registry`](kv_core::Registry).
pub const SCHEME: Scheme = Scheme::new(
    "sqlite",
    "sqlite:PATH or sqlite::memory: with ?table=kv&sync=every-commit|loses-on-power-cut&busy_timeout=10s\
     &operation_timeout=10s&sweep_interval=1s&readers=8&max_value=16MiB",
    |url| {
        Box::pin(async move {
            let store = SqliteBuilder::from_url(&url)?.open().await?;
            Ok(Arc::new(store) as Arc<dyn KvStore>)
        })
    },
)
.with_verify(|url, take| {
    Box::pin(async move {
        // Opening makes a file where there is none.
        if !std::fs::exists(url.path()?).unwrap_or(true) {
            return Err(Error::invalid("there is no such file"));
        }
        let store = SqliteBuilder::from_url(&url)?.open().await?;
        let found = store.salvage(take).await?;
        store.close().await?;
        Ok(found.into())
    })
});

/// What an acknowledged write survives, named by what is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum SyncMode {
    /// Nothing: each commit is flushed to the medium before it is acknowledged.
    #[default]
    EveryCommit,
    /// A loss of power takes the last commits, in order and whole; the end of the process, also a sudden one, takes none.
    LosesOnPowerCut,
}

impl SyncMode {
    /// The capabilities of a store in a file with this mode.
    pub const fn capabilities(self) -> Capabilities {
        match self {
            Self::EveryCommit => CAPABILITIES,
            Self::LosesOnPowerCut => CAPABILITIES.with_durability(Durability::surviving(Survives::Process)),
        }
    }

    pub(crate) const fn pragma(self) -> &'static str {
        match self {
            Self::EveryCommit => "FULL",
            Self::LosesOnPowerCut => "NORMAL",
        }
    }
}

/// The settings of a [`SqliteStore`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct SqliteConfig {
    /// The table, which is a store of its own beside the other tables of the file: `[A-Za-z_][A-Za-z0-9_]{0,62}`.
    pub table: String,
    /// What an acknowledged write survives. It means nothing in memory.
    pub sync: SyncMode,
    /// How long a write waits for another process that writes to the file, before it is `Unavailable`; never longer than
    /// [`operation_timeout`](Self::operation_timeout). Handles of one process take turns and do not wait for this.
    #[serde(with = "humantime_serde")]
    pub busy_timeout: Duration,
    /// How long a write may take in all, before it is `Unavailable` or `Indeterminate`.
    #[serde(with = "humantime_serde")]
    pub operation_timeout: Duration,
    /// How often to look for entries that have expired, and to free their space.
    #[serde(with = "humantime_serde")]
    pub sweep_interval: Duration,
    /// How many connections read at once, at most; they are opened as they are needed.
    pub readers: usize,
    /// The largest value; at least 8 MiB, and at most 512 MiB.
    pub max_value: ByteSize,
}

impl SqliteConfig {
    /// The limits that follow from the settings.
    ///
    /// # Errors
    /// `Invalid` for a largest value out of range.
    pub(crate) fn limits(&self) -> Result<Limits> {
        let (least, most) = (Limits::MIN_VALUE_BYTES, 512 << 20);
        match usize::try_from(self.max_value.as_u64()) {
            Ok(bytes) if (least..=most).contains(&bytes) => Ok(Limits::DEFAULT.with_max_value_bytes(bytes)),
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
        }
    }
}

impl SqliteStore {
    /// Opens the store that a URL names: `sqlite:PATH` or `sqlite::memory:`, with the fields of [`SqliteConfig`] as options.
    ///
    /// # Errors
    /// As [`SqliteBuilder::open`], and `Invalid` for a URL that is none of ours.
    pub async fn from_url(url: &StoreUrl) -> Result<Self> {
        SqliteBuilder::from_url(url)?.open().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_sets_every_field() {
        let url: StoreUrl = "sqlite:x.db?table=t&sync=loses-on-power-cut&busy_timeout=1s&operation_timeout=2s\
                             &sweep_interval=3s&readers=4&max_value=9MiB"
            .parse()
            .unwrap();
        let expected = SqliteConfig {
            table: "t".into(),
            sync: SyncMode::LosesOnPowerCut,
            busy_timeout: Duration::from_secs(1),
            operation_timeout: Duration::from_secs(2),
            sweep_interval: Duration::from_secs(3),
            readers: 4,
            max_value: ByteSize::mib(9),
        };
        assert_eq!(url.options::<SqliteConfig>().unwrap(), expected);
    }

    #[test]
    fn values_of_the_least_size_are_always_taken() {
        let config = |max_value| SqliteConfig { max_value, ..SqliteConfig::default() };
        assert!(config(ByteSize::mib(7)).limits().is_err());
        assert!(config(ByteSize::gib(1)).limits().is_err());
        assert_eq!(SqliteConfig::default().limits().unwrap(), Limits::DEFAULT);
    }
}
