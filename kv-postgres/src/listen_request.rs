//! Requests to the listener task.

use std::time::Duration;

use kv_core::{Error, Result};
use tokio::sync::{mpsc, oneshot};

/// The notifications that a caller needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    Messages,
    /// Changes, and messages.
    Changes,
    /// Changes, and a heartbeat at once.
    CurrentChanges,
}

/// A request to the listener task.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) need: Need,
    /// The receiver of the result.
    pub(crate) responder: oneshot::Sender<Result<()>>,
}

/// The sender of requests to the listener task.
#[derive(Debug, Clone)]
pub(crate) struct Listener {
    requests: mpsc::Sender<Request>,
}

/// The receiver of requests in the listener task.
#[derive(Debug)]
pub(crate) struct Requests(mpsc::Receiver<Request>);

impl Requests {
    /// Waits for the next request; `None` if the store was dropped.
    pub(crate) async fn next(&mut self) -> Option<Request> {
        self.0.recv().await
    }
}

impl Listener {
    pub(crate) fn new() -> (Self, Requests) {
        let (sender, receiver) = mpsc::channel(64);
        (Self { requests: sender }, Requests(receiver))
    }

    /// Waits until the listener receives the needed notifications.
    ///
    /// # Errors
    /// `Closed`, `Unavailable` after the timeout, and the errors of the connection.
    pub(crate) async fn listen(&self, need: Need, timeout: Duration) -> Result<()> {
        let (responder, response) = oneshot::channel();
        let request = async {
            self.requests.send(Request { need, responder }).await.ok()?;
            response.await.ok()
        };
        match tokio::time::timeout(timeout, request).await {
            Ok(Some(listening)) => listening,
            Ok(None) => Err(Error::closed()),
            Err(_) => Err(Error::unavailable("the server did not answer within the timeout")),
        }
    }
}
