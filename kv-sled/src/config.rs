//! The settings of a store as serde data.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use kv_core::{Error, Result, StoreUrl};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The settings of a store. They can come from a configuration file or from a URL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct SledConfig {
    /// Creates the folder and the store if they are missing. The default is true. With false, a missing store is
    /// `Invalid`, and nothing is created.
    pub create: bool,
    /// The failures that an acknowledged write survives. The default is `process`.
    pub durability: SledDurability,
    /// The size of sled's page cache in bytes, as a number or as text such as `256MiB`. The default is 256 MiB.
    #[serde(rename = "cache", deserialize_with = "bytes")]
    pub cache_bytes: u64,
    /// The free-space reserve in bytes, as a number or as text. Writes are refused as `Capacity` while the file system
    /// has less free space. The default is 64 MiB. sled does not recover from a full disk, so writes must end before
    /// the disk is full.
    #[serde(rename = "min_free", deserialize_with = "bytes")]
    pub min_free_bytes: u64,
    /// The interval of the background sweeper, as humantime text. An expired entry takes space for at most about this
    /// time. The default is 500 ms.
    #[serde(with = "humantime_serde")]
    pub sweep_interval: Duration,
    /// The longest time that a call may spend inside sled, as humantime text. If a call takes longer, the watchdog
    /// poisons the store. The default is 10 s.
    #[serde(with = "humantime_serde")]
    pub operation_timeout: Duration,
    /// The longest time without progress while the store opens, as humantime text. After that time, the files count as
    /// damaged. The default is 4 s. The store adds one second for each 64 MiB of sled's log.
    #[serde(with = "humantime_serde")]
    pub open_timeout: Duration,
    /// The check of the stored data on opening. The default is `everything`.
    pub check: SledCheck,
}

impl SledConfig {
    /// Returns the options of a `sled:` URL.
    ///
    /// # Errors
    /// `Invalid` for an unknown option or an invalid value.
    pub fn from_url(url: &StoreUrl) -> Result<Self> {
        url.options()
    }

    pub(crate) fn check(&self) -> Result<()> {
        let Self {
            create: _,
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
            create: true,
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

/// The check of the stored data on opening.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SledCheck {
    /// Reads all records and compares them with the tree checksum. This takes time in proportion to the stored data.
    #[default]
    Everything,
    /// Reads no records. **Damage is found later or never**: a read may fail, hang, or return an old value that was
    /// overwritten long ago.
    Nothing,
}

/// The failures that an acknowledged write survives. As text: `process`, `power`, or an interval such as
/// `interval:100ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum SledDurability {
    /// An acknowledged write survives the sudden end of this process. The write is flushed to the operating system
    /// before it is acknowledged. Concurrent writes share a flush.
    #[default]
    Process,
    /// Write-behind: **the sudden end of this process can lose the writes that were acknowledged within this interval
    /// before the end**. Pending writes are in memory, where they can be read and overwritten.
    Interval(Duration),
    /// An acknowledged write survives loss of power, as far as an fsync of every changed file can ensure it. sled moves
    /// pages between two fsyncs in an order that this crate cannot control: see the crate's documentation.
    Power,
}

impl FromStr for SledDurability {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let unknown = || {
            Error::invalid(format!(
                "`{text}` is not a durability: use `process`, `power` or an interval such as `interval:100ms`"
            ))
        };
        match text {
            "process" => Ok(Self::Process),
            "power" => Ok(Self::Power),
            _ => {
                let interval = text.strip_prefix("interval:").ok_or_else(unknown)?;
                Ok(Self::Interval(humantime::parse_duration(interval).map_err(|_| unknown())?))
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
    fn a_url_sets_options_and_an_unknown_or_invalid_option_is_refused() {
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
    fn a_durability_is_the_same_after_formatting_and_parsing() {
        for durability in
            [SledDurability::Process, SledDurability::Power, SledDurability::Interval(Duration::from_millis(20))]
        {
            assert_eq!(durability.to_string().parse::<SledDurability>().unwrap(), durability);
        }
    }

    #[test]
    fn a_zero_duration_is_refused() {
        let config = SledConfig { sweep_interval: Duration::ZERO, ..SledConfig::default() };
        assert!(config.check().unwrap_err().message().contains("sweep_interval"));
    }
}
