//! The address of a served store, and the timeouts of its connections and calls.

use std::fmt;
use std::future::Future;
use std::io;
use std::time::Duration;

use kv_core::{Error, ErrorKind, Result};
use serde::Serialize;

use super::address::Address;
use super::config::LinesConfig;
use super::connection::Connection;
use super::response::{self, OVERHEAD_BYTES, Response};
use crate::hello::{Hello, Welcome};
use crate::line::MAX_LINE_BYTES;
use crate::request::Request;

/// Connects to a served store, and applies the timeouts.
#[derive(Clone)]
pub(super) struct Endpoint {
    address: Address,
    config: LinesConfig,
    /// The first line of every connection, with the token.
    hello: String,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The output omits `hello`, because it contains the token.
        let Self { address, config, hello: _ } = self;
        f.debug_struct("Endpoint").field("address", address).field("config", config).finish_non_exhaustive()
    }
}

/// A request with the id that its response repeats.
#[derive(Debug, Serialize)]
struct RequestLine<'r> {
    id: u8,
    #[serde(flatten)]
    request: &'r Request,
}

impl Endpoint {
    pub(super) fn new(address: Address, config: LinesConfig) -> Result<Self> {
        let hello = encoded(&Hello::new(config.token()?))?;
        Ok(Self { address, config, hello })
    }

    /// Opens a connection and sends the first line of its session.
    ///
    /// # Errors
    /// `Unavailable` if no server answers, `Denied` if the server refuses the token, `Corrupt` if the server speaks
    /// another protocol.
    pub(super) async fn connect(&self) -> Result<Connection> {
        let unavailable =
            |error: io::Error| Error::unavailable(format!("cannot connect to {}", self.address)).with_source(error);
        let opening = async {
            let mut connection = Connection::open(&self.address).await.map_err(unavailable)?;
            connection.send(&self.hello).await.map_err(unavailable)?;
            let response = connection.receive(OVERHEAD_BYTES).await.map_err(unavailable)?;
            let _: Welcome = response::read::<Response<Welcome>>(response)?.into_result().map_err(refused)?;
            Ok(connection)
        };
        let limit = self.config.connect_timeout;
        tokio::time::timeout(limit, opening).await.unwrap_or_else(|_| {
            Err(Error::unavailable(format!("connecting to {} took longer than {limit:?}", self.address)))
        })
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
    /// Converts into the error of the operation: `Unavailable` for a read, and `Indeterminate` for a write, because the
    /// write may have been applied.
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

/// Converts the error of a refused connection. `Indeterminate`, the form of an unknown kind, becomes `Unavailable`,
/// because no request was sent.
fn refused(error: Error) -> Error {
    match error.kind() {
        ErrorKind::Indeterminate { .. } => Error::unavailable(error.message().to_owned()),
        _ => error,
    }
}

/// Encodes a request as a line.
///
/// # Errors
/// `Invalid` if the line is longer than [`MAX_LINE_BYTES`].
pub(super) fn line(request: &Request) -> Result<String> {
    encoded(&RequestLine { id: 1, request })
}

fn encoded(line: &impl Serialize) -> Result<String> {
    let line = serde_json::to_string(line);
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
