//! The settings of a store, as data from a URL or a configuration file.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use kv_core::{Error, Limits, Result};
use serde::Deserialize;

use crate::codec::Format;

/// The most that [`RedisConfig::max_value`] may be. The server takes 512 MiB, and a script that checks a condition holds
/// the value twice.
pub(crate) const MAX_VALUE_BYTES: u64 = 256 << 20;

/// The default of [`RedisConfig::group_segments`].
pub(crate) const DEFAULT_GROUP_SEGMENTS: u8 = 2;

/// The index of a namespace's keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Index {
    /// As the namespace was created; a new one with an index, unless the server may evict any key.
    #[default]
    Auto,
    /// With an index. A new namespace on a server that may evict any key is refused.
    Ordered,
    /// Without an index: writes cost less, and a list scans the whole database. On a server that may evict any key it also
    /// opens a namespace that has an index, for reading and copying only.
    None,
}

/// A password. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The settings of a [`RedisStore`](crate::RedisStore).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct RedisConfig {
    /// The name that separates the keys of this store from all others of the database: any text of at most 255 bytes.
    /// In plain format it may be empty; then the whole database is the store.
    pub namespace: String,
    /// The format of stored entries.
    pub format: Format,
    /// The index of the keys.
    pub index: Index,
    /// The number of buckets that the keys are spread over; by default 1 on a single server and 64 on a cluster. All
    /// keys of a bucket are on one master. Fixed when the namespace is created.
    pub buckets: Option<u16>,
    /// The number of leading key segments that choose the bucket. Fixed when the namespace is created.
    pub group_segments: u8,
    /// The longest time to connect.
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// The longest time of a round trip, including a reconnect and, on a cluster, all retries.
    #[serde(with = "humantime_serde")]
    pub operation_timeout: Duration,
    /// The interval at which each connection is checked and the server's clock is read.
    #[serde(with = "humantime_serde")]
    pub heartbeat: Duration,
    /// The pause of the sweeper between two steps of a few hundred keys each, if there was little to sweep.
    #[serde(with = "humantime_serde")]
    pub sweep_interval: Duration,
    /// The largest value, between 8 MiB and 256 MiB.
    pub max_value: ByteSize,
    /// The number of the database, if the URL has none. Refused for a cluster, which only has database 0.
    pub db: Option<i64>,
    /// The user, if the URL has none.
    pub user: Option<String>,
    /// The password, if the URL has none.
    pub pass: Option<Secret>,
    /// Sets `TCP_NODELAY`: each command is sent at once, instead of together with others while an earlier one is
    /// unacknowledged. Few tasks get less latency over a network; many tasks get fewer commands a second.
    pub nodelay: bool,
    /// Uses TLS to the nodes of a cluster. Refused for one server, where the scheme decides.
    pub tls: bool,
    /// A PEM file of the certificates that the server's certificate is checked with, in place of the system's.
    pub ca: Option<PathBuf>,
    /// A PEM file with our own certificate, for a server that asks for one.
    pub cert: Option<PathBuf>,
    /// A PEM file with the private key of `cert`.
    pub key: Option<PathBuf>,
}

impl RedisConfig {
    /// The limits that follow from the settings.
    ///
    /// # Errors
    /// `Invalid` for a setting out of range.
    pub(crate) fn limits(&self) -> Result<Limits> {
        let durations = [
            ("connect_timeout", self.connect_timeout),
            ("operation_timeout", self.operation_timeout),
            ("heartbeat", self.heartbeat),
            ("sweep_interval", self.sweep_interval),
        ];
        if let Some((name, _)) = durations.into_iter().find(|(_, duration)| duration.is_zero()) {
            return Err(Error::invalid(format!("`{name}` must be longer than zero")));
        }
        match usize::try_from(self.max_value.as_u64()) {
            Ok(bytes) if bytes >= Limits::MIN_VALUE_BYTES && self.max_value.as_u64() <= MAX_VALUE_BYTES => {
                Ok(Limits::DEFAULT.with_max_value_bytes(bytes))
            }
            _ => Err(Error::invalid("`max_value` must be between 8 MiB and 256 MiB")),
        }
    }
}

impl Default for RedisConfig {
    fn default() -> Self {
        Self {
            namespace: "kv".into(),
            format: Format::default(),
            index: Index::default(),
            buckets: None,
            group_segments: DEFAULT_GROUP_SEGMENTS,
            connect_timeout: Duration::from_secs(5),
            operation_timeout: Duration::from_secs(10),
            heartbeat: Duration::from_secs(1),
            sweep_interval: Duration::from_millis(100),
            max_value: ByteSize(Limits::DEFAULT.max_value_bytes as u64),
            db: None,
            user: None,
            pass: None,
            nodelay: false,
            tls: false,
            ca: None,
            cert: None,
            key: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use kv_core::StoreUrl;

    use super::*;

    #[test]
    fn a_url_sets_every_field_and_shows_no_password() {
        let url: StoreUrl = "redis://h?namespace=n&format=plain&index=none&buckets=4&group_segments=3&connect_timeout=1s\
                             &operation_timeout=2s&heartbeat=3s&sweep_interval=4s&max_value=9MiB&db=5&user=u&pass=canary\
                             &nodelay=true&tls=true&ca=a&cert=b&key=c"
            .parse()
            .unwrap();
        let config: RedisConfig = url.options().unwrap();
        let expected = RedisConfig {
            namespace: "n".into(),
            format: Format::Plain,
            index: Index::None,
            buckets: Some(4),
            group_segments: 3,
            connect_timeout: Duration::from_secs(1),
            operation_timeout: Duration::from_secs(2),
            heartbeat: Duration::from_secs(3),
            sweep_interval: Duration::from_secs(4),
            max_value: ByteSize::mib(9),
            db: Some(5),
            user: Some("u".into()),
            pass: Some("canary".into()),
            nodelay: true,
            tls: true,
            ca: Some("a".into()),
            cert: Some("b".into()),
            key: Some("c".into()),
        };
        assert_eq!(config, expected);
        assert!(!format!("{config:?}").contains("canary"));
    }

    #[test]
    fn max_value_has_limits() {
        let config = |max_value| RedisConfig { max_value, ..RedisConfig::default() };
        assert!(config(ByteSize::mib(7)).limits().is_err());
        assert!(config(ByteSize::gib(1)).limits().is_err());
        assert_eq!(RedisConfig::default().limits().unwrap(), Limits::DEFAULT);
    }
}
