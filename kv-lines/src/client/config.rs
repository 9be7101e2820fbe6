//! The settings of the client: address and timeouts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kv_core::{Error, KvStore, Opening, Result, Scheme, StoreUrl};
use serde::{Deserialize, Serialize};

use super::endpoint::Endpoint;
use super::store::LinesStore;

/// The default connect timeout.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The default timeout of an operation. `clear`, `flush` and `sweep` have no timeout.
pub const OPERATION_TIMEOUT: Duration = Duration::from_secs(10);

/// The URL scheme `lines://127.0.0.1:PORT`.
pub const SCHEME: Scheme =
    Scheme::new("lines", "lines://127.0.0.1:PORT[?connect_timeout=5s&operation_timeout=10s]", open);

fn open(url: StoreUrl) -> Opening {
    Box::pin(async move { Ok(Arc::new(LinesBuilder::from_url(&url)?.open().await?) as Arc<dyn KvStore>) })
}

/// The settings that a URL or a configuration file can hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct LinesConfig {
    /// The connect timeout. Default: [`CONNECT_TIMEOUT`].
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// The timeout of an operation. Default: [`OPERATION_TIMEOUT`].
    #[serde(with = "humantime_serde")]
    pub operation_timeout: Duration,
}

impl Default for LinesConfig {
    fn default() -> Self {
        Self { connect_timeout: CONNECT_TIMEOUT, operation_timeout: OPERATION_TIMEOUT }
    }
}

/// Opens a [`LinesStore`].
#[derive(Debug, Clone)]
pub struct LinesBuilder {
    address: SocketAddr,
    config: LinesConfig,
}

impl LinesBuilder {
    /// Creates a builder for the store that is served at this address.
    pub fn new(address: SocketAddr) -> Self {
        Self { address, config: LinesConfig::default() }
    }

    /// Creates a builder from a URL.
    ///
    /// # Errors
    /// `Invalid` unless the URL is `lines://ADDRESS:PORT`, and for an unknown option.
    pub fn from_url(url: &StoreUrl) -> Result<Self> {
        let malformed = || Error::invalid("the URL of a served store has the form `lines://127.0.0.1:PORT`");
        let address = url.rest().strip_prefix("//").and_then(|rest| rest.trim_end_matches('/').parse().ok());
        Ok(Self { address: address.ok_or_else(malformed)?, config: url.options()? })
    }

    /// Sets all settings at once.
    #[must_use]
    pub fn config(mut self, config: LinesConfig) -> Self {
        self.config = config;
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
    /// `Invalid` for an address that is not loopback, because the connection is not encrypted; `Unavailable` if no
    /// server answers; `Corrupt` if the server speaks another protocol.
    pub async fn open(self) -> Result<LinesStore> {
        let Self { address, config } = self;
        if !address.ip().is_loopback() {
            return Err(Error::invalid(format!(
                "`{address}` is not a loopback address, and the protocol has neither authentication nor encryption"
            )));
        }
        LinesStore::connect(Endpoint::new(address, config)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_loopback_addresses_are_accepted() {
        for url in ["lines:", "lines://", "lines://host:1", "lines://127.0.0.1", "lines://127.0.0.1:1?x=1"] {
            assert!(LinesBuilder::from_url(&url.parse().unwrap()).is_err(), "{url}");
        }
        let builder = LinesBuilder::from_url(&"lines://192.0.2.1:7000".parse().unwrap()).unwrap();
        assert!(builder.open().await.unwrap_err().to_string().contains("loopback"));
        assert!(LinesBuilder::from_url(&"lines://[::1]:7000?operation_timeout=1s".parse().unwrap()).is_ok());
    }
}
