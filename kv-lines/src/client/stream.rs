//! Watches and subscriptions, each on a connection of its own.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use futures_util::{Stream, StreamExt, stream};
use kv_core::{Clock, Error, ErrorKind, GapReason, MessageEvent, Result, SystemClock, WatchEvent};
use serde::Deserialize;

use super::answer::{self, Answer, BRIEF_BYTES};
use super::connection::Connection;
use super::endpoint::{Endpoint, line};
use crate::request::Request;
use crate::shape::{Hear, Heard};

/// How long it is until a lost connection is tried again.
const RETRY: Duration = Duration::from_millis(200);

/// A line of a running stream.
#[derive(Debug, Deserialize)]
struct Told {
    event: Heard,
}

/// What a stream tells where it may have missed something.
pub(super) trait Gapped: Hear + Send + 'static {
    fn gap(reason: GapReason) -> Self;
}

impl Gapped for WatchEvent {
    fn gap(reason: GapReason) -> Self {
        Self::Gap { reason }
    }
}

impl Gapped for MessageEvent {
    fn gap(reason: GapReason) -> Self {
        Self::Gap { reason }
    }
}

/// Starts a stream by the first request. Where its connection breaks, it is started again by the other one, and says so.
///
/// The stream is live when this returns, and ends with the handle. Its events have at most `longest` bytes.
pub(super) async fn start<T: Gapped>(
    endpoint: Endpoint,
    closing: impl Future<Output = ()> + Send + 'static,
    longest: usize,
    first: Request,
    again: Request,
) -> Result<Pin<Box<dyn Stream<Item = Result<T>> + Send>>> {
    let connection = begin(&endpoint, &first).await?;
    let state = Running { endpoint, longest, again, connection: Some(connection), has_heard: false };
    let events = stream::unfold(Some(state), |state| async move {
        let mut state = state?;
        match state.next().await {
            Some(Ok(event)) => Some((Ok(event), Some(state))),
            Some(Err(error)) => Some((Err(error), None)),
            None => None,
        }
    });
    Ok(Box::pin(events.take_until(Box::pin(closing))))
}

struct Running {
    endpoint: Endpoint,
    longest: usize,
    again: Request,
    /// None while it is broken.
    connection: Option<Connection>,
    /// Whether anything came since the stream was started or started again.
    has_heard: bool,
}

impl Running {
    async fn next<T: Gapped>(&mut self) -> Option<Result<T>> {
        if let Some(connection) = &mut self.connection {
            match connection.receive(self.longest).await {
                Ok(line) => {
                    self.has_heard = true;
                    return match answer::read::<Told>(line) {
                        Ok(told) => T::hear(told.event),
                        Err(error) => Some(Err(error)),
                    };
                }
                Err(_) => self.connection = None,
            }
        }
        self.resume().await
    }

    /// Connects again, however long that takes: who does not want to wait drops the stream.
    async fn resume<T: Gapped>(&mut self) -> Option<Result<T>> {
        // A server that starts streams and breaks them at once is not asked without a pause.
        if !std::mem::take(&mut self.has_heard) {
            SystemClock.sleep(RETRY).await;
        }
        loop {
            match begin(&self.endpoint, &self.again).await {
                Ok(connection) => {
                    self.connection = Some(connection);
                    return Some(Ok(T::gap(GapReason::Reconnected)));
                }
                Err(error) if error.kind() == ErrorKind::Unavailable => SystemClock.sleep(RETRY).await,
                Err(error) if error.kind() == ErrorKind::Closed => return None,
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

async fn begin(endpoint: &Endpoint, request: &Request) -> Result<Connection, Error> {
    let mut connection = endpoint.connect().await?;
    let request = line(request)?;
    let asked = endpoint.within(async {
        connection.send(&request).await?;
        connection.receive(BRIEF_BYTES).await.map(answer::read::<Answer<()>>)
    });
    asked.await.map_err(|broken| broken.into_error(false))??.into_result()?;
    Ok(connection)
}
