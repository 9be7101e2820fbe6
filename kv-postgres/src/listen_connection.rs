//! Connections that receive the server's notifications.

use std::future::{Future, poll_fn};
use std::time::Duration;

use kv_core::Result;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_postgres::{AsyncMessage, Client, Connection, Notification};

use crate::address::Address;
use crate::error::{Cause, Failure, read_error};

/// Connects, and passes each notification to `notify`. The returned task ends with the connection.
pub(crate) async fn open(
    address: &Address,
    timeout: Duration,
    notify: impl FnMut(&Notification) + Send + 'static,
) -> Result<(Client, JoinHandle<()>)> {
    let connecting = tokio::time::timeout(timeout, address.config.connect(address.tls.clone()));
    let (client, connection) = match connecting.await {
        Ok(connected) => connected.map_err(|error| read_error(Failure::from_connect(error)))?,
        Err(_) => return Err(read_error(Failure::NotSent(Cause::Timeout))),
    };
    Ok((client, tokio::spawn(drive(connection, notify))))
}

async fn drive<S, T>(mut connection: Connection<S, T>, mut notify: impl FnMut(&Notification) + Send)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    T: AsyncRead + AsyncWrite + Unpin + Send,
{
    while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
        if let AsyncMessage::Notification(notification) = message {
            notify(&notification);
        }
    }
}

/// Waits for a round trip, at most for `timeout`.
///
/// # Errors
/// The errors of [`read_error`].
pub(crate) async fn round_trip<T>(
    timeout: Duration,
    trip: impl Future<Output = Result<T, tokio_postgres::Error>> + Send,
) -> Result<T> {
    match tokio::time::timeout(timeout, trip).await {
        Ok(done) => done.map_err(|error| read_error(Failure::from_statement(error))),
        Err(_) => Err(read_error(Failure::Unanswered(Cause::Timeout))),
    }
}

/// Listens to a channel. The receiver gets a value when a notification with exactly this payload arrives.
///
/// Through a transaction pooler no notification arrives, although the pooler accepts `LISTEN`.
pub(crate) async fn listen_for(
    channel: &str,
    payload: String,
    address: &Address,
    timeout: Duration,
) -> Result<(Client, oneshot::Receiver<()>)> {
    let (sender, arrived) = oneshot::channel();
    let mut sender = Some(sender);
    // The connection ends when its client is dropped, so nothing has to abort its task.
    let (client, _) = open(address, timeout, move |received| {
        if received.payload() == payload
            && let Some(sender) = sender.take()
        {
            // If the notification arrives late, the receiver was already dropped.
            let _ = sender.send(());
        }
    })
    .await?;
    round_trip(timeout, client.batch_execute(&format!("LISTEN {channel}"))).await?;
    Ok((client, arrived))
}
