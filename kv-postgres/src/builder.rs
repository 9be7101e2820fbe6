//! The builder of a store.

use std::fmt;
use std::time::Duration;

use bytesize::ByteSize;
use deadpool_postgres::Pool;
use kv_core::{Error, Operation, Result, StoreUrl};

use crate::address::Address;
use crate::config::{PostgresConfig, SyncMode};
use crate::error::CONTEXT;
use crate::open::{self, Origin};
use crate::store::PostgresStore;

impl PostgresStore {
    /// Returns a builder with the default settings. The builder needs a URL or a pool before [`PostgresBuilder::open`].
    pub fn builder() -> PostgresBuilder {
        PostgresBuilder::new()
    }
}

/// Builds a [`PostgresStore`]. The `Debug` output contains no secret.
///
/// # Examples
/// ```no_run
/// use kv_postgres::PostgresStore;
///
/// # async fn open() -> kv_core::Result<()> {
/// let builder = PostgresStore::builder().url("postgres://app:secret@localhost/app")?;
/// let users = builder.clone().table("users").open().await?;
/// let jobs = builder.table("jobs").open().await?;
/// # let _ = (users, jobs);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "a builder opens nothing before `open`"]
pub struct PostgresBuilder {
    origin: Option<Origin>,
    config: PostgresConfig,
}

impl fmt::Debug for PostgresBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresBuilder").field("config", &self.config).finish_non_exhaustive()
    }
}

impl PostgresBuilder {
    pub(crate) fn new() -> Self {
        Self { origin: None, config: PostgresConfig::default() }
    }

    pub(crate) fn from_url(url: &StoreUrl) -> Result<Self> {
        let (address, config) = Address::parse(url)?;
        Ok(Self { origin: Some(Origin::Address(Box::new(address))), config })
    }

    /// Sets the address and all settings from a URL. Each setting that the URL does not contain gets its default.
    ///
    /// # Errors
    /// `Invalid` for a URL that PostgreSQL does not accept, or for an unknown option.
    pub fn url(self, url: &str) -> Result<Self> {
        CONTEXT.operation(Operation::Open, url.parse().and_then(|url| Self::from_url(&url)))
    }

    /// Uses an existing pool. Closing the store leaves the pool open, and the sessions of the pool keep the settings of
    /// the application. With a pool, watch and messages need [`PostgresBuilder::listen_url`].
    pub fn pool(mut self, pool: Pool) -> Self {
        self.origin = Some(Origin::Pool(pool));
        self
    }

    /// Sets all settings at once.
    pub fn config(mut self, config: PostgresConfig) -> Self {
        self.config = config;
        self
    }

    /// Sets [`PostgresConfig::schema`].
    pub fn schema(mut self, schema: impl Into<String>) -> Self {
        self.config.schema = schema.into();
        self
    }

    /// Sets [`PostgresConfig::table`].
    pub fn table(mut self, table: impl Into<String>) -> Self {
        self.config.table = table.into();
        self
    }

    /// Sets [`PostgresConfig::create`].
    pub fn create(mut self, create: bool) -> Self {
        self.config.create = create;
        self
    }

    /// Sets [`PostgresConfig::sync`].
    pub fn sync(mut self, sync: SyncMode) -> Self {
        self.config.sync = sync;
        self
    }

    /// Sets [`PostgresConfig::connections`].
    pub fn connections(mut self, connections: usize) -> Self {
        self.config.connections = connections;
        self
    }

    /// Sets [`PostgresConfig::pooled`].
    pub fn pooled(mut self, pooled: bool) -> Self {
        self.config.pooled = pooled;
        self
    }

    /// Sets [`PostgresConfig::listen_url`].
    pub fn listen_url(mut self, url: impl Into<String>) -> Self {
        self.config.listen_url = Some(url.into());
        self
    }

    /// Sets [`PostgresConfig::connect_timeout`].
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.config.connect_timeout = timeout;
        self
    }

    /// Sets [`PostgresConfig::operation_timeout`].
    pub fn operation_timeout(mut self, timeout: Duration) -> Self {
        self.config.operation_timeout = timeout;
        self
    }

    /// Sets [`PostgresConfig::lock_timeout`].
    pub fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.config.lock_timeout = timeout;
        self
    }

    /// Sets [`PostgresConfig::sweep_interval`].
    pub fn sweep_interval(mut self, interval: Duration) -> Self {
        self.config.sweep_interval = interval;
        self
    }

    /// Sets [`PostgresConfig::watch_loss_bound`].
    pub fn watch_loss_bound(mut self, bound: Duration) -> Self {
        self.config.watch_loss_bound = bound;
        self
    }

    /// Sets [`PostgresConfig::max_value`], in bytes.
    pub fn max_value_bytes(mut self, bytes: u64) -> Self {
        self.config.max_value = ByteSize(bytes);
        self
    }

    /// Opens the store on the current tokio runtime, which runs the store's tasks from then on.
    ///
    /// # Errors
    /// - `Invalid`: a setting is out of range, the database does not use UTF-8, there is a pooler and `pooled` is not
    ///   set, or the table does not exist and must not be created.
    /// - `Denied`: the server refuses the credentials, or the role may not create the table.
    /// - `Unavailable`, `Capacity`: the server cannot be reached, is starting, or accepts no more connections.
    /// - `Corrupt`: the existing table has another layout or is foreign. The table is not changed.
    pub async fn open(self) -> Result<PostgresStore> {
        let opened = async {
            let Self { origin, config } = self;
            let origin = origin.ok_or_else(|| Error::invalid("the builder has neither a URL nor a pool"))?;
            open::open(origin, config).await
        };
        CONTEXT.operation(Operation::Open, opened.await)
    }
}
