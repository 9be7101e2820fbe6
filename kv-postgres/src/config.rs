//! Settings as data, as a URL or a configuration file gives them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;
use kv_core::{Error, KvStore, Limits, Opening, Result, Scheme, StoreUrl};
use serde::{Deserialize, Serialize};

use crate::builder::PostgresBuilder;
use crate::store::PostgresStore;

const USAGE: &str = "postgres://USER:PASSWORD@HOST:PORT/DATABASE with \
    ?table=kv&schema=public&sync=every-commit|loses-last-moments|loses-all-on-crash&connections=8&pooled=false\
    &listen_url=URL&connect_timeout=5s&operation_timeout=10s&lock_timeout=2s&sweep_interval=1s&max_value=16MiB\
    &sslmode=verify-full&sslrootcert=PATH";

/// `postgres://…`, for a [`Registry`](kv_core::Registry).
pub const SCHEME: Scheme = Scheme::new("postgres", USAGE, open);

/// `postgresql://…`, the other name that PostgreSQL's own programs take.
pub const SCHEME_LONG: Scheme = Scheme::new("postgresql", USAGE, open);

fn open(url: StoreUrl) -> Opening {
    Box::pin(async move {
        let store = PostgresBuilder::from_url(&url)?.open().await?;
        Ok(Arc::new(store) as Arc<dyn KvStore>)
    })
}

/// What an acknowledged write survives, named by what is lost. The server's own settings may lower it, and the store declares
/// what it finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum SyncMode {
    /// Nothing: each commit is flushed to the medium before it is acknowledged.
    #[default]
    EveryCommit,
    /// A crash of the server takes the last moments, in order and whole (`synchronous_commit = off`).
    LosesLastMoments,
    /// A crash of the server, also of one of its processes, takes everything (`UNLOGGED`). Decided when the table is created.
    LosesAllOnCrash,
}

/// The settings of a [`PostgresStore`].
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct PostgresConfig {
    /// The schema of the table: `[A-Za-z_][A-Za-z0-9_]*`, at most 54 bytes. Created where it is missing.
    pub schema: String,
    /// The table, which is a store of its own: `[A-Za-z_][A-Za-z0-9_]*`, at most 54 bytes. Created where it is missing.
    pub table: String,
    /// What an acknowledged write survives.
    pub sync: SyncMode,
    /// How many connections, at most; one more listens while somebody watches or subscribes.
    pub connections: usize,
    /// Whether a pooler of transactions, such as pgbouncer, is between: no prepared statements and no settings of sessions.
    pub pooled: bool,
    /// Where to listen, for watch and messages: a URL past the pooler.
    #[serde(skip_serializing)]
    pub listen_url: Option<String>,
    /// How long connecting may take.
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// How long a round trip may take, before the call is `Unavailable` or `Indeterminate`.
    #[serde(with = "humantime_serde")]
    pub operation_timeout: Duration,
    /// How long to wait for a row that another session has locked. It means nothing behind a pooler.
    #[serde(with = "humantime_serde")]
    pub lock_timeout: Duration,
    /// How often to look for entries that have expired, and to free their space.
    #[serde(with = "humantime_serde")]
    pub sweep_interval: Duration,
    /// The largest value; at least 8 MiB, and at most 512 MiB.
    pub max_value: ByteSize,
}

impl PostgresConfig {
    /// The limits that follow from the settings.
    ///
    /// # Errors
    /// `Invalid` for a setting out of range.
    pub(crate) fn limits(&self) -> Result<Limits> {
        // The server and libpq take zero for a wait without end.
        let durations = [
            ("connect_timeout", self.connect_timeout),
            ("operation_timeout", self.operation_timeout),
            ("lock_timeout", self.lock_timeout),
            ("sweep_interval", self.sweep_interval),
        ];
        if let Some((name, _)) = durations.into_iter().find(|(_, duration)| duration.as_millis() == 0) {
            return Err(Error::invalid(format!("`{name}` is a millisecond at least")));
        }
        if self.connections == 0 {
            return Err(Error::invalid("`connections` is one at least"));
        }
        let (least, most) = (Limits::MIN_VALUE_BYTES, 512 << 20);
        match usize::try_from(self.max_value.as_u64()) {
            Ok(bytes) if (least..=most).contains(&bytes) => Ok(Limits::DEFAULT.with_max_value_bytes(bytes)),
            _ => Err(Error::invalid("`max_value` is at least 8 MiB and at most 512 MiB")),
        }
    }

    /// What each session of ours is started with. Plans do not depend on how large the table was when a statement was prepared;
    /// a statement that its client has given up ends by itself; and a client that is gone leaves no lock.
    pub(crate) fn session_options(&self) -> String {
        let commit = if self.sync == SyncMode::LosesLastMoments { "off" } else { "on" };
        let (statement, lock) = (self.operation_timeout.as_millis(), self.lock_timeout.as_millis());
        format!(
            "-c enable_seqscan=off -c enable_bitmapscan=off -c jit=off -c plan_cache_mode=force_generic_plan \
             -c synchronous_commit={commit} -c default_transaction_isolation=read\\ committed \
             -c statement_timeout={statement} -c lock_timeout={lock} \
             -c idle_in_transaction_session_timeout={statement}"
        )
    }
}

impl Default for PostgresConfig {
    fn default() -> Self {
        Self {
            schema: "public".into(),
            table: "kv".into(),
            sync: SyncMode::default(),
            connections: 8,
            pooled: false,
            listen_url: None,
            connect_timeout: Duration::from_secs(5),
            operation_timeout: Duration::from_secs(10),
            lock_timeout: Duration::from_secs(2),
            sweep_interval: Duration::from_secs(1),
            max_value: ByteSize(Limits::DEFAULT.max_value_bytes as u64),
        }
    }
}

/// Without the URL, which has credentials in it.
impl fmt::Debug for PostgresConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            schema,
            table,
            sync,
            connections,
            pooled,
            listen_url,
            connect_timeout,
            operation_timeout,
            lock_timeout,
            sweep_interval,
            max_value,
        } = self;
        f.debug_struct("PostgresConfig")
            .field("schema", schema)
            .field("table", table)
            .field("sync", sync)
            .field("connections", connections)
            .field("pooled", pooled)
            .field("listen_url", &listen_url.as_ref().map(|_| "***"))
            .field("connect_timeout", connect_timeout)
            .field("operation_timeout", operation_timeout)
            .field("lock_timeout", lock_timeout)
            .field("sweep_interval", sweep_interval)
            .field("max_value", max_value)
            .finish()
    }
}

impl PostgresStore {
    /// Opens the store that a URL names: `postgres://…`, with the fields of [`PostgresConfig`] among its options.
    ///
    /// # Errors
    /// As [`PostgresBuilder::open`], and `Invalid` for a URL that is none of ours.
    pub async fn from_url(url: &StoreUrl) -> Result<Self> {
        PostgresBuilder::from_url(url)?.open().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_sets_every_field() {
        let url: StoreUrl = "postgres:?schema=s&table=t&sync=loses-last-moments&connections=3&pooled=true\
                             &listen_url=postgres://h/d&connect_timeout=1s&operation_timeout=2s&lock_timeout=3s\
                             &sweep_interval=4s&max_value=9MiB"
            .parse()
            .unwrap();
        let expected = PostgresConfig {
            schema: "s".into(),
            table: "t".into(),
            sync: SyncMode::LosesLastMoments,
            connections: 3,
            pooled: true,
            listen_url: Some("postgres://h/d".into()),
            connect_timeout: Duration::from_secs(1),
            operation_timeout: Duration::from_secs(2),
            lock_timeout: Duration::from_secs(3),
            sweep_interval: Duration::from_secs(4),
            max_value: ByteSize::mib(9),
        };
        assert_eq!(url.options::<PostgresConfig>().unwrap(), expected);
    }

    #[test]
    fn values_of_the_least_size_are_always_taken() {
        let config = |max_value| PostgresConfig { max_value, ..PostgresConfig::default() };
        assert!(config(ByteSize::mib(7)).limits().is_err());
        assert!(config(ByteSize::gib(1)).limits().is_err());
        assert_eq!(PostgresConfig::default().limits().unwrap(), Limits::DEFAULT);
    }

    #[test]
    fn nothing_waits_without_end() {
        for option in [
            "connect_timeout=0",
            "connect_timeout=0s",
            "operation_timeout=100us",
            "lock_timeout=0s",
            "sweep_interval=0s",
            "connections=0",
        ] {
            let (name, _) = option.split_once('=').unwrap();
            let url: StoreUrl = format!("postgres://localhost/kv?{option}").parse().unwrap();
            let (_, config) = crate::address::Address::parse(&url).unwrap();
            let error = config.limits().unwrap_err();
            assert!(error.message().contains(name), "{option}: {error}");
        }
    }
}
