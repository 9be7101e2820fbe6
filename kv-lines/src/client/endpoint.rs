//! The address of a served store, and the timeouts of its connections and calls.

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

/// A request with the id that its response repeats.
#[derive(Debug, Serialize)]
struct RequestLine<'r> {
    id: u8,
    #[serde(flatten)]
    request: &'r Request,
}

impl Endpoint {
    pub(super) fn new(address: SocketAddr, config: LinesConfig) -> Self {
        Self { address, config }
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// `Unavailable`.
    pub(super) async fn connect(&self) -> Result<Connection> {
        let opening = Connection::open(self.address);
        match tokio::time::timeout(self.config.connect_timeout, opening).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(Error::unavailable(format!("cannot connect to {}", self.address)).with_source(error)),
            Err(_) => Err(Error::unavailable(format!(
                "connecting to {} took longer than {:?}",
                self.address, self.config.connect_timeout
            ))),
        }
    }

    /// Applies the timeout of an operation.
    pub(super) async fn with_timeout<T>(&self, work: impl Future<Output = io::Result<T>>) -> Result<T, ExchangeError> {
        match tokio::time::timeout(self.config.operation_timeout, work).await {
            Ok(done) => done.map_err(ExchangeError::Connection),
            Err(_) => Err(ExchangeError::TimedOut(self.config.operation_timeout)),
        }
    }
}

/// The reason for a missing response.
#[derive(Debug)]
pub(super) enum ExchangeError {
    Connection(io::Error),
    TimedOut(Duration),
}

impl ExchangeError {
    /// Converts into the error of the operation: `Indeterminate` for a write, which may have happened, else
    /// `Unavailable`.
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

/// Encodes a request as a line.
pub(super) fn line(request: &Request) -> Result<String> {
    let line = serde_json::to_string(&RequestLine { id: 1, request });
    let mut line = line.map_err(|error| Error::invalid(format!("cannot encode the request as JSON: {error}")))?;
    if line.len() > MAX_LINE_BYTES {
        return Err(Error::invalid(format!(
            "the request has {} bytes, the limit of the protocol is {MAX_LINE_BYTES}",
            line.len()
        )));
    }
    line.push('\n');
    Ok(line)
}
