//! The builder of a store.

use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;
use kv_core::{Clock, Error, Operation, Result, StoreUrl, SystemClock};
use redis::Client;

use crate::address::Address;
use crate::codec::Format;
use crate::config::{Index, RedisConfig};
use crate::error::CONTEXT;
use crate::open;
use crate::options;
use crate::store::RedisStore;

/// Builds a [`RedisStore`].
///
/// # Examples
/// ```no_run
/// use kv_redis::RedisBuilder;
///
/// # async fn example() -> kv_core::Result<()> {
/// let url = "redis://127.0.0.1:6379".parse()?;
/// let users = RedisBuilder::from_url(&url)?.namespace("users").open().await?;
/// let jobs = RedisBuilder::from_url(&url)?.namespace("jobs").open().await?;
/// # let _ = (users, jobs);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "nothing is opened before `open`"]
pub struct RedisBuilder {
    address: Option<Address>,
    config: RedisConfig,
    clock: Arc<dyn Clock>,
}

impl RedisBuilder {
    pub(crate) fn new() -> Self {
        Self { address: None, config: RedisConfig::default(), clock: Arc::new(SystemClock) }
    }

    /// Takes the address and the settings from a URL. The URL must have one of the [`SCHEMES`](crate::SCHEMES), and may
    /// have the fields of [`RedisConfig`] as options.
    ///
    /// # Errors
    /// `Invalid` if the URL has another scheme, no valid address, an unknown option, or an option that does not apply
    /// to its scheme, format or index.
    pub fn from_url(url: &StoreUrl) -> Result<Self> {
        let config: RedisConfig = url.options()?;
        let address = Address::from_url(url, &config)?;
        options::check_url(url, &address, &config)?;
        Ok(Self { address: Some(address), ..Self::new().config(config) })
    }

    /// Takes the address, login and certificates of a server from a [`redis::Client`]. The store opens its own
    /// connections.
    pub fn client(mut self, client: &Client) -> Self {
        self.address = Some(Address::Server(Box::new(client.get_connection_info().clone())));
        self
    }

    /// Takes the addresses, logins and certificates of some nodes of a cluster from several [`redis::Client`]s. The
    /// store finds the other nodes, and opens its own connections.
    pub fn cluster<'c>(mut self, clients: impl IntoIterator<Item = &'c Client>) -> Self {
        let nodes = clients.into_iter().map(|client| client.get_connection_info().clone()).collect();
        self.address = Some(Address::Cluster(nodes));
        self
    }

    /// Replaces all settings.
    pub fn config(mut self, config: RedisConfig) -> Self {
        self.config = config;
        self
    }

    /// Sets [`RedisConfig::namespace`].
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.config.namespace = namespace.into();
        self
    }

    /// Sets [`RedisConfig::create`].
    pub fn create(mut self, create: bool) -> Self {
        self.config.create = create;
        self
    }

    /// Sets [`RedisConfig::format`].
    pub fn format(mut self, format: Format) -> Self {
        self.config.format = format;
        self
    }

    /// Sets [`RedisConfig::index`].
    pub fn index(mut self, index: Index) -> Self {
        self.config.index = index;
        self
    }

    /// Sets [`RedisConfig::buckets`].
    pub fn buckets(mut self, buckets: u16) -> Self {
        self.config.buckets = Some(buckets);
        self
    }

    /// Sets [`RedisConfig::group_segments`].
    pub fn group_segments(mut self, segments: u8) -> Self {
        self.config.group_segments = segments;
        self
    }

    /// Sets [`RedisConfig::connect_timeout`].
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.config.connect_timeout = timeout;
        self
    }

    /// Sets [`RedisConfig::operation_timeout`].
    pub fn operation_timeout(mut self, timeout: Duration) -> Self {
        self.config.operation_timeout = timeout;
        self
    }

    /// Sets [`RedisConfig::heartbeat`].
    pub fn heartbeat(mut self, heartbeat: Duration) -> Self {
        self.config.heartbeat = heartbeat;
        self
    }

    /// Sets [`RedisConfig::watch_loss_bound`].
    pub fn watch_loss_bound(mut self, bound: Duration) -> Self {
        self.config.watch_loss_bound = bound;
        self
    }

    /// Sets [`RedisConfig::sweep_interval`].
    pub fn sweep_interval(mut self, interval: Duration) -> Self {
        self.config.sweep_interval = interval;
        self
    }

    /// Sets [`RedisConfig::max_value`], in bytes.
    pub fn max_value_bytes(mut self, bytes: u64) -> Self {
        self.config.max_value = ByteSize(bytes);
        self
    }

    /// Sets [`RedisConfig::ca`].
    pub fn ca(mut self, file: impl Into<std::path::PathBuf>) -> Self {
        self.config.ca = Some(file.into());
        self
    }

    /// Sets the clock of this process. Deadlines follow the server's clock, so the store measures the offset between
    /// the two clocks.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Opens the store. Creates the namespace if it does not exist, unless [`RedisConfig::create`] is false.
    ///
    /// # Errors
    /// - `Invalid`: no address was given, a setting is out of range or does not apply to the scheme, format or index,
    ///   the scheme does not fit the server, the namespace was created with other settings, or it does not exist and
    ///   must not be created.
    /// - `Denied`: the server refuses the login or the client certificate, or the server's certificate is not trusted.
    /// - `Capacity`: the server has as many connections as its `maxclients` allows, or its memory is too full to create
    ///   a namespace.
    /// - `Unavailable`: the server cannot be reached or is not ready.
    pub async fn open(self) -> Result<RedisStore> {
        let opened = async {
            let Self { address, config, clock } = self;
            let address =
                address.ok_or_else(|| Error::invalid("a store needs the address of a server: none was given"))?;
            open::open(&address, &config, clock).await
        };
        CONTEXT.operation(Operation::Open, opened.await)
    }
}

impl RedisStore {
    /// Returns a builder with default settings and no address.
    pub fn builder() -> RedisBuilder {
        RedisBuilder::new()
    }
}
