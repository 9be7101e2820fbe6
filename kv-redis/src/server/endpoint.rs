//! The address and login of a server, and the TLS settings of its connections.

use redis::{Client, ConnectionAddr, ConnectionInfo, RedisError};
use tokio_rustls::TlsConnector;

/// A server to which the store can connect.
#[derive(Clone)]
pub(crate) struct Endpoint {
    client: Client,
    /// The TLS settings. `None` without TLS, and for a `redis::Client` that has its own TLS settings, because only the
    /// driver can read these settings.
    tls: Option<TlsConnector>,
}

/// Shows only the address, because the client contains the password.
impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Endpoint({})", self.info().addr())
    }
}

impl Endpoint {
    pub(crate) fn new(client: Client, tls: Option<TlsConnector>) -> Self {
        Self { client, tls }
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn info(&self) -> &ConnectionInfo {
        self.client.get_connection_info()
    }

    pub(crate) fn tls(&self) -> Option<&TlsConnector> {
        self.tls.as_ref()
    }

    /// Returns the host of the server; `None` for a Unix socket.
    pub(crate) fn host(&self) -> Option<&str> {
        match self.info().addr() {
            ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => Some(host),
            _ => None,
        }
    }

    /// Returns another node of the same cluster: an endpoint with the same login and TLS settings.
    pub(crate) fn at(&self, host: &str, port: u16) -> Result<Self, RedisError> {
        let address = match self.info().addr() {
            ConnectionAddr::TcpTls { insecure, tls_params, .. } => ConnectionAddr::TcpTls {
                host: host.to_owned(),
                port,
                insecure: *insecure,
                tls_params: tls_params.clone(),
            },
            _ => ConnectionAddr::Tcp(host.to_owned(), port),
        };
        Ok(Self { client: Client::open(self.info().clone().set_addr(address))?, tls: self.tls.clone() })
    }
}
