//! Settings as data, as a URL or a configuration file gives them.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;
use kv_core::{Error, KvStore, Limits, Opening, Result, Scheme, StoreUrl};
use serde::Deserialize;

use crate::builder::RedisBuilder;
use crate::codec::Format;
use crate::store::RedisStore;

/// How many first segments of a key choose its place on a cluster, unless said.
pub(crate) const DEFAULT_GROUP_SEGMENTS: u8 = 2;

macro_rules! usage {
    ($address:literal) => {
        concat!(
            $address,
            " with ?namespace=kv&format=entry|plain&index=auto|ordered|none&buckets=64&group_segments=2\
             &connect_timeout=5s&operation_timeout=10s&heartbeat=1s&sweep_interval=100ms&max_value=16MiB\
             &db=0&user=NAME&pass=SECRET&ca=FILE&cert=FILE&key=FILE&nodelay=false&tls=false"
        )
    };
}

/// `redis://[USER:PASSWORD@]HOST[:PORT][/DB]`, for a [`Registry`](kv_core::Registry).
pub const SCHEME: Scheme = Scheme::new("redis", usage!("redis://[USER:PASSWORD@]HOST[:PORT][/DB]"), opening);

/// As [`SCHEME`], with TLS.
pub const TLS_SCHEME: Scheme = Scheme::new("rediss", usage!("rediss://[USER:PASSWORD@]HOST[:PORT][/DB]"), opening);

/// `redis+unix:///PATH`, through a Unix socket.
pub const UNIX_SCHEME: Scheme = Scheme::new("redis+unix", usage!("redis+unix:///PATH"), opening);

/// `redis-cluster://[USER:PASSWORD@]HOST:PORT,HOST:PORT`, some nodes of a cluster; with TLS where `tls=true`.
pub const CLUSTER_SCHEME: Scheme =
    Scheme::new("redis-cluster", usage!("redis-cluster://[USER:PASSWORD@]HOST:PORT[,HOST:PORT…]"), opening);

/// Every scheme of this crate.
pub const SCHEMES: [Scheme; 4] = [SCHEME, TLS_SCHEME, UNIX_SCHEME, CLUSTER_SCHEME];

fn opening(url: StoreUrl) -> Opening {
    Box::pin(async move { Ok(Arc::new(RedisStore::from_url(&url).await?) as Arc<dyn KvStore>) })
}

/// Whether the namespace has an index of its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Index {
    /// Where the server does not evict keys at will.
    #[default]
    Auto,
    /// It has, and a server that evicts keys at will is refused.
    Ordered,
    /// It has none: writes cost less, and a list scans the whole database.
    None,
}

/// A password: it is not shown.
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

/// The settings of a [`RedisStore`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct RedisConfig {
    /// The set of keys that is this store, apart from all others of the database: at most 255 bytes of any text. In plain
    /// format it may be empty, and the whole database is the store.
    pub namespace: String,
    /// How entries are stored.
    pub format: Format,
    /// Whether there is an index.
    pub index: Index,
    /// Into how many buckets the keys are spread: one on a single server and 64 on a cluster, unless said. All of a bucket
    /// lies on one master. It is settled when the namespace is created.
    pub buckets: Option<u16>,
    /// How many first segments of a key choose its bucket. It is settled when the namespace is created.
    pub group_segments: u8,
    /// How long a connection may take.
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// How long a round trip may take, with the connection that it may need, and on a cluster with all that is tried.
    #[serde(with = "humantime_serde")]
    pub operation_timeout: Duration,
    /// How often a connection is tried, and the server's clock read.
    #[serde(with = "humantime_serde")]
    pub heartbeat: Duration,
    /// How long the sweeper rests between two looks at a few hundred keys, when there was nothing to sweep.
    #[serde(with = "humantime_serde")]
    pub sweep_interval: Duration,
    /// The largest value; at least 8 MiB, and at most 256 MiB.
    pub max_value: ByteSize,
    /// The number of the database, where the URL has none. A cluster has one only.
    pub db: Option<i64>,
    /// The user, where the URL has none.
    pub user: Option<String>,
    /// The password, where the URL has none.
    pub pass: Option<Secret>,
    /// Whether each command is sent at once, and not together with others while an earlier one is on its way: less latency of
    /// few tasks over a network, and fewer commands a second of many.
    pub nodelay: bool,
    /// Whether the nodes of a cluster are spoken to with TLS.
    pub tls: bool,
    /// A file of certificates, in PEM, that vouch for the server, in place of those of the system.
    pub ca: Option<PathBuf>,
    /// A file with the certificate, in PEM, by which the server knows us.
    pub cert: Option<PathBuf>,
    /// A file with the key, in PEM, of that certificate.
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
            return Err(Error::invalid(format!("`{name}` is longer than nothing")));
        }
        // The server takes 512 MiB, and a script that judges a value holds it twice.
        let (least, most) = (Limits::MIN_VALUE_BYTES, 256 << 20);
        match usize::try_from(self.max_value.as_u64()) {
            Ok(bytes) if (least..=most).contains(&bytes) => Ok(Limits::DEFAULT.with_max_value_bytes(bytes)),
            _ => Err(Error::invalid("`max_value` is at least 8 MiB and at most 256 MiB")),
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

impl RedisStore {
    /// Opens the store that a URL names: an address of one of the [`SCHEMES`], with the fields of [`RedisConfig`] as options.
    ///
    /// # Errors
    /// As [`RedisBuilder::open`], and `Invalid` for a URL that is none of ours.
    pub async fn from_url(url: &StoreUrl) -> Result<Self> {
        RedisBuilder::from_url(url)?.open().await
    }
}

#[cfg(test)]
mod tests {
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
    fn values_of_the_least_size_are_always_taken() {
        let config = |max_value| RedisConfig { max_value, ..RedisConfig::default() };
        assert!(config(ByteSize::mib(7)).limits().is_err());
        assert!(config(ByteSize::gib(1)).limits().is_err());
        assert_eq!(RedisConfig::default().limits().unwrap(), Limits::DEFAULT);
    }
}
