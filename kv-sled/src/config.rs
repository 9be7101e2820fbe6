//! The store's configuration as data, and its URLs.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;
use kv_core::{Error, KvStore, Result, Scheme, StoreUrl};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::builder::SledBuilder;
use crate::verify;

/// The scheme `sled:PATH`.
pub const SCHEME: Scheme = Scheme::new(
    "sled",
    "sled:PATH?durability=process&cache=256MiB&min_free=64MiB&sweep_interval=500ms&operation_timeout=10s&check=everything",
    |url| {
        Box::pin(async move {
            let store = SledBuilder::default().config(SledConfig::from_url(&url)?).open(url.path()?).await?;
            Ok(Arc::new(store) as Arc<dyn KvStore>)
        })
    },
)
.with_verify(|url, take| {
    Box::pin(async move {
        let path = SledConfig::from_url(&url).and_then(|_| url.path())?;
        let read = tokio::task::spawn_blocking(move || verify::export(path, take));
        read.await.map_or_else(|_| Err(Error::unavailable("the check could not be run")), |found| found.map(Into::into))
    })
});

/// How a store is opened, as a configuration file or a URL says it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct SledConfig {
    /// What an acknowledged write survives.
    pub durability: SledDurability,
    /// How much memory sled's page cache takes, in bytes, as a number or as text such as `256MiB`; that much unless said.
    #[serde(rename = "cache", deserialize_with = "bytes")]
    pub cache_bytes: u64,
    /// Writes are refused as `Capacity` while the file system has less free space than this, in bytes, as a number or as
    /// text; 64 MiB unless said. sled does not come back from a full disk, so it never gets to see one.
    #[serde(rename = "min_free", deserialize_with = "bytes")]
    pub min_free_bytes: u64,
    /// How long expired entries keep their space at most, as humantime text; 500 ms unless said.
    #[serde(with = "humantime_serde")]
    pub sweep_interval: Duration,
    /// How long a write may take before the store gives itself up, as humantime text; 10 s unless said.
    #[serde(with = "humantime_serde")]
    pub operation_timeout: Duration,
    /// How long opening may stand still before the file counts as damaged, as humantime text; 4 s unless said, and a second
    /// more for each 64 MiB of file.
    #[serde(with = "humantime_serde")]
    pub open_timeout: Duration,
    /// What is compared with what should be there when the store is opened; everything unless said.
    pub check: SledCheck,
}

impl SledConfig {
    /// The options of a `sled:` URL.
    ///
    /// # Errors
    /// `Invalid` for an unknown option.
    pub fn from_url(url: &StoreUrl) -> Result<Self> {
        url.options()
    }

    pub(crate) fn check(&self) -> Result<()> {
        let Self {
            durability,
            cache_bytes: _,
            min_free_bytes: _,
            sweep_interval,
            operation_timeout,
            open_timeout,
            check: _,
        } = self;
        let interval = match durability {
            SledDurability::Interval(interval) => *interval,
            SledDurability::Process | SledDurability::Power => Duration::MAX,
        };
        for (name, duration) in [
            ("durability", interval),
            ("sweep_interval", *sweep_interval),
            ("operation_timeout", *operation_timeout),
            ("open_timeout", *open_timeout),
        ] {
            if duration.is_zero() {
                return Err(Error::invalid(format!("the duration of `{name}` is zero")));
            }
        }
        Ok(())
    }
}

impl Default for SledConfig {
    fn default() -> Self {
        Self {
            durability: SledDurability::Process,
            cache_bytes: 256 << 20,
            min_free_bytes: 64 << 20,
            sweep_interval: Duration::from_millis(500),
            operation_timeout: Duration::from_secs(10),
            open_timeout: Duration::from_secs(4),
            check: SledCheck::Everything,
        }
    }
}

/// What is read and compared when a store is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SledCheck {
    /// Everything, which takes time in proportion to it.
    #[default]
    Everything,
    /// Nothing. **Damage is met later, or not at all**: by a read that fails, hangs or gives a value that was overwritten.
    Nothing,
}

/// What an acknowledged write survives. As text: `process`, `power`, or an interval such as `interval:100ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum SledDurability {
    /// The sudden end of this process: handed to the operating system before the acknowledgement, together with the writes
    /// that wait at the same time.
    #[default]
    Process,
    /// The sudden end of this process, but **the writes of the last stretch of this length can be lost**: they wait in memory, and
    /// are read and written over there.
    Interval(Duration),
    /// Loss of power, as far as an fsync of every file that changed can promise it on top of sled; see the crate's
    /// documentation for what sled does not order.
    Power,
}

impl FromStr for SledDurability {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let known = || Error::invalid(format!("`{text}` is no durability: `process`, `power` or `interval:100ms`"));
        match text {
            "process" => Ok(Self::Process),
            "power" => Ok(Self::Power),
            _ => {
                let interval = text.strip_prefix("interval:").ok_or_else(known)?;
                Ok(Self::Interval(humantime::parse_duration(interval).map_err(|_| known())?))
            }
        }
    }
}

impl fmt::Display for SledDurability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process => f.write_str("process"),
            Self::Interval(interval) => write!(f, "interval:{}", humantime::format_duration(*interval)),
            Self::Power => f.write_str("power"),
        }
    }
}

impl Serialize for SledDurability {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SledDurability {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(|error: Error| serde::de::Error::custom(error.message()))
    }
}

fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    Ok(ByteSize::deserialize(deserializer)?.as_u64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_everything() {
        let url: StoreUrl = "sled:./data?durability=interval:1s 500ms&cache=1MiB&min_free=0".parse().unwrap();
        let config = SledConfig::from_url(&url).unwrap();
        assert_eq!(config.durability, SledDurability::Interval(Duration::from_millis(1_500)));
        assert_eq!((config.cache_bytes, config.min_free_bytes), (1 << 20, 0));
        assert_eq!(config.check, SledCheck::Everything);
        for bad in ["check=some", "durability=fast", "durability=interval:", "sise=1", "cache=big"] {
            let url: StoreUrl = format!("sled:./data?{bad}").parse().unwrap();
            assert!(SledConfig::from_url(&url).is_err(), "{bad}");
        }
    }

    #[test]
    fn durability_round_trips_as_text() {
        for durability in
            [SledDurability::Process, SledDurability::Power, SledDurability::Interval(Duration::from_millis(20))]
        {
            assert_eq!(durability.to_string().parse::<SledDurability>().unwrap(), durability);
        }
    }

    #[test]
    fn a_duration_of_zero_is_refused() {
        let config = SledConfig { sweep_interval: Duration::ZERO, ..SledConfig::default() };
        assert!(config.check().unwrap_err().message().contains("sweep_interval"));
    }
}
