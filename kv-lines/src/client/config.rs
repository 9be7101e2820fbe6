//! How a store that is elsewhere is found.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kv_core::{Error, KvStore, Opening, Result, Scheme, StoreUrl};
use serde::{Deserialize, Serialize};

use super::endpoint::Endpoint;
use super::store::LinesStore;

/// How long connecting may take unless said.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an operation may take unless said; `clear` and `sweep` take as long as they need.
pub const OPERATION_TIMEOUT: Duration = Duration::from_secs(10);

/// `lines://127.0.0.1:PORT`
pub const SCHEME: Scheme =
    Scheme::new("lines", "lines://127.0.0.1:PORT[?connect_timeout=5s&operation_timeout=10s]", open);

fn open(url: StoreUrl) -> Opening {
    Box::pin(async move { Ok(Arc::new(LinesBuilder::from_url(&url)?.open().await?) as Arc<dyn KvStore>) })
}

/// What can be set in a URL or a configuration file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct LinesConfig {
    /// How long connecting may take.
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// How long an operation may take.
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
    /// The store that is served at this address.
    pub fn new(address: SocketAddr) -> Self {
        Self { address, config: LinesConfig::default() }
    }

    /// As the URL says.
    ///
    /// # Errors
    /// `Invalid` for what is no `lines://ADDRESS:PORT`, and for an unknown option.
    pub fn from_url(url: &StoreUrl) -> Result<Self> {
        let shape = || Error::invalid("the address of a served store is `lines://127.0.0.1:PORT`");
        let address = url.rest().strip_prefix("//").and_then(|rest| rest.trim_end_matches('/').parse().ok());
        Ok(Self { address: address.ok_or_else(shape)?, config: url.options()? })
    }

    /// Takes all settings at once.
    #[must_use]
    pub fn config(mut self, config: LinesConfig) -> Self {
        self.config = config;
        self
    }

    /// Sets how long connecting may take.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.config.connect_timeout = timeout;
        self
    }

    /// Sets how long an operation may take.
    #[must_use]
    pub fn operation_timeout(mut self, timeout: Duration) -> Self {
        self.config.operation_timeout = timeout;
        self
    }

    /// Connects, and asks what is served.
    ///
    /// # Errors
    /// `Invalid` for an address that is not of this machine, because nothing on the way is secret; `Unavailable` where nobody
    /// answers; `Corrupt` where something else is spoken.
    pub async fn open(self) -> Result<LinesStore> {
        let Self { address, config } = self;
        if !address.ip().is_loopback() {
            return Err(Error::invalid(format!(
                "`{address}` is no loopback address, and the protocol has neither passwords nor encryption"
            )));
        }
        LinesStore::connect(Endpoint::new(address, config)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_addresses_of_this_machine_are_taken() {
        for url in ["lines:", "lines://", "lines://host:1", "lines://127.0.0.1", "lines://127.0.0.1:1?x=1"] {
            assert!(LinesBuilder::from_url(&url.parse().unwrap()).is_err(), "{url}");
        }
        let builder = LinesBuilder::from_url(&"lines://192.0.2.1:7000".parse().unwrap()).unwrap();
        assert!(builder.open().await.unwrap_err().to_string().contains("loopback"));
        assert!(LinesBuilder::from_url(&"lines://[::1]:7000?operation_timeout=1s".parse().unwrap()).is_ok());
    }
}
