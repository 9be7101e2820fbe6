//! The address that `kv serve` listens on.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use kv_lines::{Listener, Token};
use tokio::net::TcpListener;

/// The value of `--listen`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Listen {
    Tcp(SocketAddr),
    #[cfg(unix)]
    Unix(PathBuf),
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        #[cfg(unix)]
        if let Some(path) = text.strip_prefix("unix:").filter(|path| !path.is_empty()) {
            return Ok(Self::Unix(path.into()));
        }
        let address: SocketAddr =
            text.parse().map_err(|_| "an address is `127.0.0.1:PORT` or `unix:PATH`".to_owned())?;
        if !address.ip().is_loopback() {
            return Err(format!("`{address}` is not a loopback address, and the protocol is not encrypted"));
        }
        Ok(Self::Tcp(address))
    }
}

impl Listen {
    /// Binds the address. Returns the listener, and the address with the selected port. Only a TCP listener uses the
    /// token.
    pub(crate) async fn bind(&self, token: Token) -> io::Result<(Listener, Self)> {
        match self {
            Self::Tcp(address) => {
                let listener = TcpListener::bind(address).await?;
                let bound = Self::Tcp(listener.local_addr()?);
                Ok((Listener::tcp(listener, token)?, bound))
            }
            #[cfg(unix)]
            Self::Unix(path) => Ok((Listener::unix(path)?, self.clone())),
        }
    }

    /// True if clients need a token.
    pub(crate) fn needs_token(&self) -> bool {
        matches!(self, Self::Tcp(_))
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            #[cfg(unix)]
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}
