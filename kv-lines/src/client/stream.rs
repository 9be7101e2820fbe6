//! Watches and subscriptions. Each of them has its own connection.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use futures_util::{Stream, StreamExt, stream};
use kv_core::{Clock, Error, ErrorKind, GapReason, MessageEvent, Result, SystemClock, WatchEvent};
use serde::Deserialize;

use super::connection::Connection;
use super::endpoint::{Endpoint, line};
use super::response::{self, OVERHEAD_BYTES, Response};
use crate::request::Request;
use crate::shape::{FromStreamEvent, StreamEvent};

/// The delay between attempts to reconnect.
const RETRY_DELAY: Duration = Duration::from_millis(200);

/// An event line of a running stream.
#[derive(Debug, Deserialize)]
struct EventLine {
    event: StreamEvent,
}

/// The item type of a stream.
pub(super) trait StreamItem: FromStreamEvent + Send + 'static {
    /// Creates the event that marks a gap: events may be lost.
    fn gap(reason: GapReason) -> Self;
}

impl StreamItem for WatchEvent {
    fn gap(reason: GapReason) -> Self {
        Self::Gap { reason }
    }
}

impl StreamItem for MessageEvent {
    fn gap(reason: GapReason) -> Self {
        Self::Gap { reason }
    }
}

/// Starts a stream with the request `first`. After a lost connection, the stream reconnects, starts again with the
/// request `again`, and yields a gap.
///
/// The stream is active when this function returns, and ends when `closed` completes. An event has at most
/// `max_event_bytes`.
pub(super) async fn start<T: StreamItem>(
    endpoint: Endpoint,
    closed: impl Future<Output = ()> + Send + 'static,
    max_event_bytes: usize,
    first: Request,
    again: Request,
) -> Result<Pin<Box<dyn Stream<Item = Result<T>> + Send>>> {
    let connection = begin(&endpoint, &first).await?;
    let state = RunningStream { endpoint, max_event_bytes, again, connection: Some(connection), has_received: false };
    let events = stream::unfold(Some(state), |state| async move {
        let mut state = state?;
        match state.next().await {
            Some(Ok(event)) => Some((Ok(event), Some(state))),
            Some(Err(error)) => Some((Err(error), None)),
            None => None,
        }
    });
    Ok(Box::pin(events.take_until(Box::pin(closed))))
}

/// A stream that reconnects.
struct RunningStream {
    endpoint: Endpoint,
    max_event_bytes: usize,
    again: Request,
    /// `None` while the stream is disconnected.
    connection: Option<Connection>,
    /// True if a line arrived since the stream last started.
    has_received: bool,
}

impl RunningStream {
    async fn next<T: StreamItem>(&mut self) -> Option<Result<T>> {
        if let Some(connection) = &mut self.connection {
            match connection.receive(self.max_event_bytes).await {
                Ok(line) => {
                    self.has_received = true;
                    return match response::read::<EventLine>(line) {
                        Ok(line) => T::from_stream_event(line.event),
                        Err(error) => Some(Err(error)),
                    };
                }
                Err(_) => self.connection = None,
            }
        }
        self.resume().await
    }

    /// Reconnects without a timeout. A caller that does not want to wait drops the stream.
    async fn resume<T: StreamItem>(&mut self) -> Option<Result<T>> {
        // If the previous connection delivered nothing, delay the first attempt, too. Otherwise a server that breaks
        // each stream at once would cause a busy loop.
        if !std::mem::take(&mut self.has_received) {
            SystemClock.sleep(RETRY_DELAY).await;
        }
        loop {
            match begin(&self.endpoint, &self.again).await {
                Ok(connection) => {
                    self.connection = Some(connection);
                    return Some(Ok(T::gap(GapReason::Reconnected)));
                }
                Err(error) if error.kind() == ErrorKind::Unavailable => SystemClock.sleep(RETRY_DELAY).await,
                Err(error) if error.kind() == ErrorKind::Closed => return None,
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// Opens a connection and starts a stream on it.
async fn begin(endpoint: &Endpoint, request: &Request) -> Result<Connection, Error> {
    let mut connection = endpoint.connect().await?;
    let request = line(request)?;
    let response = endpoint.with_timeout(async {
        connection.send(&request).await?;
        connection.receive(OVERHEAD_BYTES).await.map(response::read::<Response<()>>)
    });
    response.await.map_err(|error| error.into_error(false))??.into_result()?;
    Ok(connection)
}
