//! The address of a served store.

use std::fmt;
use std::net::SocketAddr;
#[cfg(unix)]
use std::path::PathBuf;

use kv_core::{Error, Result, StoreUrl};

/// The address of a served store.
#[derive(Debug, Clone)]
pub(super) enum Address {
    Tcp(SocketAddr),
    #[cfg(unix)]
    Unix(PathBuf),
}

impl Address {
    pub(super) fn from_url(url: &StoreUrl) -> Result<Self> {
        let malformed =
            || Error::invalid("the URL of a served store has the form `lines://127.0.0.1:PORT` or `lines:unix:PATH`");
        #[cfg(unix)]
        if url.rest().starts_with("unix:") {
            let path = url.path()?;
            let path = path.strip_prefix("unix:").filter(|path| !path.is_empty());
            return path.map(|path| Self::Unix(path.into())).ok_or_else(malformed);
        }
        let address = url.rest().strip_prefix("//").and_then(|rest| rest.trim_end_matches('/').parse().ok());
        address.map(Self::Tcp).ok_or_else(malformed)
    }

    /// Checks that the address is on this machine.
    pub(super) fn check(&self) -> Result<()> {
        match self {
            Self::Tcp(address) if !address.ip().is_loopback() => {
                Err(Error::invalid(format!("`{address}` is not a loopback address, and the protocol is not encrypted")))
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            #[cfg(unix)]
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}
