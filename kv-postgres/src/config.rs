//! The settings of a store as serde data.

use std::fmt;
use std::time::Duration;

use bytesize::ByteSize;
use kv_core::{Error, Limits, Result};
use serde::{Deserialize, Serialize};

/// The durability of an acknowledged write. Each name states the loss that a crash may cause. The server's own settings
/// may lower the durability further. The store declares the durability that it detects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum SyncMode {
    /// A crash loses nothing: each commit is flushed to the disk before it is acknowledged.
    #[default]
    EveryCommit,
    /// A crash of the server may lose the most recent commits, each as a whole (`synchronous_commit = off`). Refused if
    /// a pooler or the application's pool provides the sessions.
    LosesLastMoments,
    /// A crash of the server, or of any of its processes, loses all entries (`UNLOGGED`). This mode has an effect only
    /// if the store creates the table.
    LosesAllOnCrash,
}

/// The settings of a [`PostgresStore`](crate::PostgresStore).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct PostgresConfig {
    /// The schema of the table: `[A-Za-z_][A-Za-z0-9_]*`, at most 54 bytes. A missing schema is created.
    pub schema: String,
    /// The table. Each table is a separate store: `[A-Za-z_][A-Za-z0-9_]*`, at most 54 bytes. A missing table is
    /// created.
    pub table: String,
    /// Creates the schema and the table if they are missing, by default true. With false, a missing table is `Invalid`,
    /// and nothing is created.
    pub create: bool,
    /// The durability of an acknowledged write.
    pub sync: SyncMode,
    /// The maximum number of connections for calls. One more connection listens while there is a watcher or a
    /// subscriber.
    pub connections: usize,
    /// True if a transaction pooler such as pgbouncer is between the store and the server. The store then uses no
    /// prepared statements and no session settings.
    pub pooled: bool,
    /// The URL of the server itself, not of a pooler. The connection for watch and messages uses this URL.
    #[serde(skip_serializing)]
    pub listen_url: Option<String>,
    /// The timeout of making a connection.
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// The timeout of a round trip. A call that exceeds this timeout fails as `Unavailable` or `Indeterminate`.
    #[serde(with = "humantime_serde")]
    pub operation_timeout: Duration,
    /// The timeout of the wait for a row that another session has locked. Has no effect behind a pooler.
    #[serde(with = "humantime_serde")]
    pub lock_timeout: Duration,
    /// The interval at which the sweeper frees the space of expired entries.
    #[serde(with = "humantime_serde")]
    pub sweep_interval: Duration,
    /// The longest time for which a [`ChangeSink`](kv_core::ChangeSink) does not learn that changes may be missing, by
    /// default 2 s, at least 100 ms and at most an hour. A loss is also announced to watchers and subscribers within this
    /// time. While there are any of them, a heartbeat is sent every quarter of it.
    #[serde(with = "humantime_serde")]
    pub watch_loss_bound: Duration,
    /// The maximum size of a value in a write, from 8 MiB to 512 MiB.
    pub max_value: ByteSize,
}

impl PostgresConfig {
    /// Checks the settings, and returns the limits of the store. `has_own_sessions` is false if an application's pool
    /// or a pooler provides the sessions. The store applies no settings to such sessions.
    ///
    /// # Errors
    /// `Invalid` for a setting that is out of range or has no effect.
    pub(crate) fn limits(&self, has_own_sessions: bool) -> Result<Limits> {
        if self.sync == SyncMode::LosesLastMoments && !has_own_sessions {
            return Err(Error::invalid(
                "`sync=loses-last-moments` has no effect on the sessions of a pooler or of the application's pool: \
                 set `synchronous_commit` for the role",
            ));
        }
        // To the server and to libpq, zero means an endless wait.
        let durations = [
            ("connect_timeout", self.connect_timeout),
            ("operation_timeout", self.operation_timeout),
            ("lock_timeout", self.lock_timeout),
            ("sweep_interval", self.sweep_interval),
        ];
        if let Some((name, _)) = durations.into_iter().find(|(_, duration)| duration.as_millis() == 0) {
            return Err(Error::invalid(format!("`{name}` must be at least a millisecond")));
        }
        if !(Duration::from_millis(100)..=Duration::from_secs(3_600)).contains(&self.watch_loss_bound) {
            return Err(Error::invalid("`watch_loss_bound` must be at least 100 ms and at most an hour"));
        }
        if self.connections == 0 {
            return Err(Error::invalid("`connections` must be at least one"));
        }
        let (min, max) = (Limits::MIN_VALUE_BYTES, 512 << 20);
        match usize::try_from(self.max_value.as_u64()) {
            Ok(bytes) if (min..=max).contains(&bytes) => Ok(Limits::DEFAULT.with_max_value_bytes(bytes)),
            _ => Err(Error::invalid("`max_value` must be at least 8 MiB and at most 512 MiB")),
        }
    }

    /// The options with which each session of the store starts.
    ///
    /// With these options, a plan does not depend on the size that the table had when the statement was prepared. The
    /// server also ends a statement for which the client no longer waits, and releases the locks of a client that has
    /// disconnected.
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
            create: true,
            sync: SyncMode::default(),
            connections: 8,
            pooled: false,
            listen_url: None,
            connect_timeout: Duration::from_secs(5),
            operation_timeout: Duration::from_secs(10),
            lock_timeout: Duration::from_secs(2),
            sweep_interval: Duration::from_secs(1),
            watch_loss_bound: Duration::from_secs(2),
            max_value: ByteSize(Limits::DEFAULT.max_value_bytes as u64),
        }
    }
}

/// Hides `listen_url`, because a URL may contain credentials.
impl fmt::Debug for PostgresConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            schema,
            table,
            create,
            sync,
            connections,
            pooled,
            listen_url,
            connect_timeout,
            operation_timeout,
            lock_timeout,
            sweep_interval,
            watch_loss_bound,
            max_value,
        } = self;
        f.debug_struct("PostgresConfig")
            .field("schema", schema)
            .field("table", table)
            .field("create", create)
            .field("sync", sync)
            .field("connections", connections)
            .field("pooled", pooled)
            .field("listen_url", &listen_url.as_ref().map(|_| "***"))
            .field("connect_timeout", connect_timeout)
            .field("operation_timeout", operation_timeout)
            .field("lock_timeout", lock_timeout)
            .field("sweep_interval", sweep_interval)
            .field("watch_loss_bound", watch_loss_bound)
            .field("max_value", max_value)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use kv_core::StoreUrl;

    use super::*;

    #[test]
    fn a_url_sets_every_field() {
        let url: StoreUrl = "postgres:?schema=s&table=t&create=false&sync=loses-last-moments&connections=3&pooled=true\
                             &listen_url=postgres://h/d&connect_timeout=1s&operation_timeout=2s&lock_timeout=3s\
                             &sweep_interval=4s&watch_loss_bound=500ms&max_value=9MiB"
            .parse()
            .unwrap();
        let expected = PostgresConfig {
            schema: "s".into(),
            table: "t".into(),
            create: false,
            sync: SyncMode::LosesLastMoments,
            connections: 3,
            pooled: true,
            listen_url: Some("postgres://h/d".into()),
            connect_timeout: Duration::from_secs(1),
            operation_timeout: Duration::from_secs(2),
            lock_timeout: Duration::from_secs(3),
            sweep_interval: Duration::from_secs(4),
            watch_loss_bound: Duration::from_millis(500),
            max_value: ByteSize::mib(9),
        };
        assert_eq!(url.options::<PostgresConfig>().unwrap(), expected);
    }

    #[test]
    fn watch_loss_bound_must_be_within_its_range() {
        for (text, is_valid) in
            [("0s", false), ("99ms", false), ("100ms", true), ("2s", true), ("1h", true), ("61min", false)]
        {
            let url: StoreUrl = format!("postgres:?watch_loss_bound={text}").parse().unwrap();
            let config: PostgresConfig = url.options().unwrap();
            assert_eq!(config.limits(true).is_ok(), is_valid, "{text}");
        }
    }

    #[test]
    fn max_value_must_be_within_its_range() {
        let config = |max_value| PostgresConfig { max_value, ..PostgresConfig::default() };
        assert!(config(ByteSize::mib(7)).limits(true).is_err());
        assert!(config(ByteSize::gib(1)).limits(true).is_err());
        assert_eq!(PostgresConfig::default().limits(true).unwrap(), Limits::DEFAULT);
    }
}
