//! Where the store is served, and how connections to it are made.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use kv_core::{Error, Result};
use serde::Serialize;

use super::config::LinesConfig;
use super::connection::Connection;
use crate::line::MAX_LINE_BYTES;
use crate::request::Request;

#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    address: SocketAddr,
    config: LinesConfig,
}

/// A request as it stands on the line, with the id that its answers carry.
#[derive(Debug, Serialize)]
struct Asked<'r> {
    id: u8,
    #[serde(flatten)]
    request: &'r Request,
}

impl Endpoint {
    pub(super) fn new(address: SocketAddr, config: LinesConfig) -> Self {
        Self { address, config }
    }

    /// Makes a connection.
    ///
    /// # Errors
    /// `Unavailable`.
    pub(super) async fn connect(&self) -> Result<Connection> {
        let opening = Connection::open(self.address);
        match tokio::time::timeout(self.config.connect_timeout, opening).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(Error::unavailable(format!("nobody answers at {}", self.address)).with_source(error)),
            Err(_) => Err(Error::unavailable(format!(
                "connecting to {} took longer than {:?}",
                self.address, self.config.connect_timeout
            ))),
        }
    }

    /// Waits as long as an operation may take.
    pub(super) async fn within<T>(&self, work: impl Future<Output = io::Result<T>>) -> Result<T, Broken> {
        match tokio::time::timeout(self.config.operation_timeout, work).await {
            Ok(done) => done.map_err(Broken::Connection),
            Err(_) => Err(Broken::TimedOut(self.config.operation_timeout)),
        }
    }
}

/// Why no answer came.
#[derive(Debug)]
pub(super) enum Broken {
    Connection(io::Error),
    TimedOut(Duration),
}

impl Broken {
    /// What the caller of an operation learns: of a write that it may have happened.
    pub(super) fn into_error(self, writes: bool) -> Error {
        let (message, source) = match self {
            Self::Connection(error) => ("the connection to the served store broke".to_owned(), Some(error)),
            Self::TimedOut(limit) => (format!("the served store did not answer within {limit:?}"), None),
        };
        let error = if writes { Error::indeterminate(None, message) } else { Error::unavailable(message) };
        match source {
            Some(source) => error.with_source(source),
            None => error,
        }
    }
}

/// The line of a request.
pub(super) fn line(request: &Request) -> Result<String> {
    let line = serde_json::to_string(&Asked { id: 1, request });
    let mut line = line.map_err(|error| Error::invalid(format!("the request is no JSON: {error}")))?;
    if line.len() > MAX_LINE_BYTES {
        return Err(Error::invalid(format!(
            "the request has {} bytes, the protocol takes {MAX_LINE_BYTES}",
            line.len()
        )));
    }
    line.push('\n');
    Ok(line)
}
