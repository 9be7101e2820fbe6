//! The settings of a store as serde data.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use kv_core::{Error, Limits, Result};
use serde::Deserialize;

use crate::codec::Format;

/// The largest allowed [`RedisConfig::max_value`], in bytes. The server accepts values of 512 MiB, but a script that
/// checks a condition may hold two values at once: the stored value and the new value.
pub(crate) const MAX_VALUE_BYTES: u64 = 256 << 20;

/// The default of [`RedisConfig::group_segments`].
pub(crate) const DEFAULT_GROUP_SEGMENTS: u8 = 2;

/// The choice of a namespace with or without an index of its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Index {
    /// Opens an existing namespace with the index setting with which it was created. Creates a new namespace with an
    /// index, unless the server may evict any key or does not report its eviction policy.
    #[default]
    Auto,
    /// With an index. A new namespace is refused if the server may evict any key or does not report its eviction
    /// policy.
    Ordered,
    /// Without an index: writes cost less, and a list scans the whole database. If the server may evict any key, this
    /// setting also opens a namespace that has an index, for reading and copying only.
    None,
}

/// A password, which `Debug` does not print.
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
    /// The name that separates the keys of this store from all other keys in the database: any text of at most 255
    /// bytes, by default `kv`. In plain format the name may be empty. With an empty name, the whole database is the
    /// store.
    pub namespace: String,
    /// Creates the namespace if it is missing, by default true. With false, a missing namespace is `Invalid`, and nothing
    /// is written. In plain format every namespace exists, because nothing is recorded about it.
    pub create: bool,
    /// The format of stored entries.
    pub format: Format,
    /// The choice of a namespace with or without an index.
    pub index: Index,
    /// The number of buckets that the keys are spread over: at most 1,024, by default 1 on a single server and 64 on a
    /// cluster. All keys of a bucket are on one master. The number never changes after the namespace was created.
    pub buckets: Option<u16>,
    /// The number of leading key segments that choose the bucket of a key, by default 2. The number never changes after
    /// the namespace was created.
    pub group_segments: u8,
    /// The timeout of connecting to a server, by default 5 seconds.
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// The timeout of a round trip, including a reconnect and, on a cluster, all retries. The default is 10 seconds.
    #[serde(with = "humantime_serde")]
    pub operation_timeout: Duration,
    /// The interval at which the store checks each connection and reads the server's clock, by default 1 second.
    #[serde(with = "humantime_serde")]
    pub heartbeat: Duration,
    /// The longest time for which a [`ChangeSink`](kv_core::ChangeSink) does not learn that changes may be missing, by
    /// default 2 seconds, at least 100 milliseconds and at most an hour. A loss is also announced to watchers and
    /// subscribers within this time. While there are any of them, a heartbeat is sent to every master every quarter of
    /// it. It must be longer than a few round trips to the server.
    #[serde(with = "humantime_serde")]
    pub watch_loss_bound: Duration,
    /// The pause of the sweeper between two steps of at most 500 keys each, by default 100 milliseconds. After a step
    /// that removes many keys there is no pause.
    #[serde(with = "humantime_serde")]
    pub sweep_interval: Duration,
    /// The largest value that a write accepts: at least 8 MiB, and at most 256 MiB.
    pub max_value: ByteSize,
    /// The number of the database. Replaces the number in a client of the driver. Refused if the URL has another
    /// number, and for a cluster, which only has database 0.
    pub db: Option<i64>,
    /// The name of the user. Replaces the user in a client of the driver. Refused if the URL has another user.
    pub user: Option<String>,
    /// The password. Replaces the password in a client of the driver. Refused if the URL has another password.
    pub pass: Option<Secret>,
    /// Sets `TCP_NODELAY`, by default false. With `true`, the kernel sends each command at once. With `false`, the
    /// kernel collects commands while earlier bytes are unacknowledged. With few tasks, `true` lowers the latency over
    /// a network. With many tasks, `true` lowers the number of commands per second.
    pub nodelay: bool,
    /// Uses TLS to the nodes of a cluster, by default false. Refused for one server, because the scheme of its URL
    /// decides.
    pub tls: bool,
    /// A PEM file of the authorities that may sign the server's certificate. These authorities replace the authorities
    /// of the system.
    pub ca: Option<PathBuf>,
    /// A PEM file with the client certificate, for a server that requires a client certificate.
    pub cert: Option<PathBuf>,
    /// A PEM file with the private key of `cert`.
    pub key: Option<PathBuf>,
}

impl RedisConfig {
    /// Returns the limits that follow from the settings.
    ///
    /// # Errors
    /// `Invalid` if a duration is zero, or `watch_loss_bound` or `max_value` is out of range.
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
        if !(Duration::from_millis(100)..=Duration::from_secs(3_600)).contains(&self.watch_loss_bound) {
            return Err(Error::invalid("`watch_loss_bound` must be at least 100 ms and at most an hour"));
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
            create: true,
            format: Format::default(),
            index: Index::default(),
            buckets: None,
            group_segments: DEFAULT_GROUP_SEGMENTS,
            connect_timeout: Duration::from_secs(5),
            operation_timeout: Duration::from_secs(10),
            heartbeat: Duration::from_secs(1),
            watch_loss_bound: Duration::from_secs(2),
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
        let url: StoreUrl = "redis://h?namespace=n&create=false&format=plain&index=none&buckets=4&group_segments=3\
                             &connect_timeout=1s&operation_timeout=2s&heartbeat=3s&sweep_interval=4s\
                             &watch_loss_bound=500ms&max_value=9MiB&db=5&user=u&pass=canary\
                             &nodelay=true&tls=true&ca=a&cert=b&key=c"
            .parse()
            .unwrap();
        let config: RedisConfig = url.options().unwrap();
        let expected = RedisConfig {
            namespace: "n".into(),
            create: false,
            format: Format::Plain,
            index: Index::None,
            buckets: Some(4),
            group_segments: 3,
            connect_timeout: Duration::from_secs(1),
            operation_timeout: Duration::from_secs(2),
            heartbeat: Duration::from_secs(3),
            watch_loss_bound: Duration::from_millis(500),
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
    fn watch_loss_bound_has_limits() {
        for (text, is_valid) in
            [("0s", false), ("99ms", false), ("100ms", true), ("2s", true), ("1h", true), ("61min", false)]
        {
            let url: StoreUrl = format!("redis://h?watch_loss_bound={text}").parse().unwrap();
            assert_eq!(url.options::<RedisConfig>().unwrap().limits().is_ok(), is_valid, "{text}");
        }
    }

    #[test]
    fn max_value_has_limits() {
        let config = |max_value| RedisConfig { max_value, ..RedisConfig::default() };
        assert!(config(ByteSize::mib(7)).limits().is_err());
        assert!(config(ByteSize::gib(1)).limits().is_err());
        assert_eq!(RedisConfig::default().limits().unwrap(), Limits::DEFAULT);
    }
}
