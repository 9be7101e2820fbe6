//! The path of a notification from the listener's connection to the hubs.
//!
//! A notification of a change only names a key. Any role can send such a notification, so a watcher takes no data from
//! it, and reads the entry instead. A notification of a message contains the message, so the seal of the message is
//! verified first.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kv_core::{GapReason, Key, Message, Result};
use tokio::sync::{mpsc, oneshot};
use tokio_postgres::Notification;

use crate::heartbeat::Echo;
use crate::message::{self, Published};
use crate::seal::{Verdict, Verifier};
use crate::state::State;

/// The maximum number of messages that are queued while an earlier stored message is fetched.
pub(crate) const MAX_PENDING_MESSAGES: usize = 10_000;

/// An item in the queue of the task that delivers messages.
#[derive(Debug)]
pub(crate) enum Delivery {
    Published(Published),
    /// Sends a response after the delivery of all earlier items.
    Barrier(oneshot::Sender<Result<()>>),
}

/// The verifier of one connection. The tasks of the connection share it. `None` while the connection ignores messages.
#[derive(Debug, Clone, Default)]
pub(crate) struct SharedVerifier(Arc<Mutex<Option<Verifier>>>);

impl SharedVerifier {
    pub(crate) fn is_some(&self) -> bool {
        self.lock().is_some()
    }

    pub(crate) fn set(&self, verifier: Option<Verifier>) {
        *self.lock() = verifier;
    }

    fn verify<'n>(&self, process_id: i32, sealed: &'n str) -> Verdict<'n> {
        self.lock().as_mut().map_or(Verdict::Refused, |verifier| verifier.verify(process_id, sealed))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Verifier>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the function that passes each notification to the hubs. The function never waits, so that the connection is
/// read without a pause.
pub(crate) fn receiver(
    state: Arc<State>,
    verifier: SharedVerifier,
    echo: Arc<Echo>,
    deliveries: mpsc::Sender<Delivery>,
) -> impl FnMut(&Notification) + Send + 'static {
    move |notification| {
        if echo.receive(notification) {
            return;
        }
        let payload = notification.payload();
        let (kind, rest) = payload.split_once(' ').unwrap_or((payload, ""));
        match kind.as_bytes() {
            // A set or a removal.
            [b's', ..] | b"d" => {
                if let Ok(key) = Key::parse_stored(rest) {
                    state.watchers.changes.notify(&key);
                }
            }
            // The table was truncated.
            b"f" => state.watchers.changes.gap(GapReason::Flushed),
            b"m" => match verifier.verify(notification.process_id(), rest) {
                Verdict::Authentic(text) => queue(&state, text, &deliveries),
                Verdict::Late => state.watchers.messages.gap(GapReason::Lagged),
                Verdict::Refused => {}
            },
            _ => {}
        }
    }
}

fn queue(state: &State, text: &str, deliveries: &mpsc::Sender<Delivery>) {
    let Some(published) = Published::parse(text) else { return };
    let has_subscribers = state.watchers.messages.has_subscribers();
    if has_subscribers && deliveries.try_send(Delivery::Published(published)).is_err() {
        state.watchers.messages.gap(GapReason::Lagged);
    }
}

/// Delivers messages in their order, and fetches the payloads of stored messages.
pub(crate) async fn deliver(state: Arc<State>, mut pending: mpsc::Receiver<Delivery>) {
    while let Some(delivery) = pending.recv().await {
        let published = match delivery {
            Delivery::Published(published) => published,
            Delivery::Barrier(responder) => {
                let _ = responder.send(Ok(()));
                continue;
            }
        };
        match published {
            Published::Inline(message) => state.watchers.messages.notify(&message),
            Published::Stored { channel, id } => match message::fetch(&state, &id).await {
                Ok(Some(payload)) => state.watchers.messages.notify(&Message { channel, payload }),
                Ok(None) => state.watchers.messages.gap(GapReason::Lagged),
                Err(_) => state.watchers.messages.gap(GapReason::Reconnected),
            },
        }
    }
}
