//! The settings of the client: address and timeouts.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kv_core::{Error, KvStore, Opening, Result, Scheme, StoreUrl};
use serde::{Deserialize, Serialize};

use super::address::Address;
use super::endpoint::Endpoint;
use super::store::LinesStore;
use crate::token::Token;

/// The default connect timeout.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The default timeout of an operation. `clear`, `flush` and `sweep` have no timeout.
pub const OPERATION_TIMEOUT: Duration = Duration::from_secs(10);

/// The scheme of the URLs `lines://127.0.0.1:PORT` and `lines:unix:PATH`.
pub const SCHEME: Scheme = Scheme::new(
    "lines",
    "lines://127.0.0.1:PORT?token_file=PATH|token=TOKEN&connect_timeout=5s&operation_timeout=10s or lines:unix:PATH",
    open,
);

fn open(url: StoreUrl) -> Opening {
    Box::pin(async move { Ok(Arc::new(LinesBuilder::from_url(&url)?.open().await?) as Arc<dyn KvStore>) })
}

/// The settings of a client that a URL or a configuration file can have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct LinesConfig {
    /// The token of the server. A server on a unix socket needs no token. Default: none.
    pub token: Option<Token>,
    /// The file with the token, if `token` is not set. Default: none.
    pub token_file: Option<PathBuf>,
    /// The connect timeout. Default: [`CONNECT_TIMEOUT`].
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// The timeout of an operation. Default: [`OPERATION_TIMEOUT`].
    #[serde(with = "humantime_serde")]
    pub operation_timeout: Duration,
}

impl Default for LinesConfig {
    fn default() -> Self {
        Self { token: None, token_file: None, connect_timeout: CONNECT_TIMEOUT, operation_timeout: OPERATION_TIMEOUT }
    }
}

impl LinesConfig {
    /// Returns the token. Reads the token from `token_file`, if this option is set.
    pub(super) fn token(&self) -> Result<Option<Token>> {
        match (&self.token, &self.token_file) {
            (Some(token), None) => Ok(Some(token.clone())),
            (None, Some(path)) => Token::read(path).map(Some).map_err(|error| {
                Error::invalid(format!("cannot read the token file `{}`", path.display())).with_source(error)
            }),
            (None, None) => Ok(None),
            (Some(_), Some(_)) => Err(Error::invalid("`token` and `token_file` exclude each other")),
        }
    }
}

/// Opens a [`LinesStore`].
#[derive(Debug, Clone)]
pub struct LinesBuilder {
    address: Address,
    config: LinesConfig,
}

impl LinesBuilder {
    /// Creates a builder for the store that is served at this address.
    pub fn new(address: SocketAddr) -> Self {
        Self { address: Address::Tcp(address), config: LinesConfig::default() }
    }

    /// Creates a builder for the store that is served at this unix socket.
    #[cfg(unix)]
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Self { address: Address::Unix(path.into()), config: LinesConfig::default() }
    }

    /// Creates a builder from a URL.
    ///
    /// # Errors
    /// `Invalid` unless the URL is `lines://ADDRESS:PORT` or `lines:unix:PATH`, and for an unknown option.
    pub fn from_url(url: &StoreUrl) -> Result<Self> {
        Ok(Self { address: Address::from_url(url)?, config: url.options()? })
    }

    /// Sets all settings at once.
    #[must_use]
    pub fn config(mut self, config: LinesConfig) -> Self {
        self.config = config;
        self
    }

    /// Sets the token of the server.
    #[must_use]
    pub fn token(mut self, token: Token) -> Self {
        self.config.token = Some(token);
        self
    }

    /// Sets the connect timeout.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.config.connect_timeout = timeout;
        self
    }

    /// Sets the timeout of an operation.
    #[must_use]
    pub fn operation_timeout(mut self, timeout: Duration) -> Self {
        self.config.operation_timeout = timeout;
        self
    }

    /// Connects, and requests the store's name, capabilities and limits.
    ///
    /// # Errors
    /// `Invalid` for an address that is not loopback, because the connection is not encrypted, and for a token file
    /// that cannot be read; `Unavailable` if no server answers; `Denied` if the server refuses the token; `Corrupt` if
    /// the server speaks another protocol.
    pub async fn open(self) -> Result<LinesStore> {
        let Self { address, config } = self;
        address.check()?;
        LinesStore::connect(Endpoint::new(address, config)?).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_loopback_addresses_are_accepted() {
        for url in
            ["lines:", "lines://", "lines://host:1", "lines://127.0.0.1", "lines://127.0.0.1:1?x=1", "lines:unix:"]
        {
            assert!(LinesBuilder::from_url(&url.parse().unwrap()).is_err(), "{url}");
        }
        let builder = LinesBuilder::from_url(&"lines://192.0.2.1:7000".parse().unwrap()).unwrap();
        assert!(builder.open().await.unwrap_err().to_string().contains("loopback"));
        for url in
            ["lines://[::1]:7000?operation_timeout=1s", "lines:unix:/run/kv.sock", "lines://127.0.0.1:1?token_file=x"]
        {
            assert!(LinesBuilder::from_url(&url.parse().unwrap()).is_ok(), "{url}");
        }
    }

    #[test]
    fn debug_output_omits_the_token() {
        let secret: StoreUrl = "lines://127.0.0.1:1?token=canary-canary-canary".parse().unwrap();
        assert!(!format!("{:?}", LinesBuilder::from_url(&secret).unwrap()).contains("canary"));
    }
}
