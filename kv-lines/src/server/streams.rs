//! The watches and subscriptions of a session.

use std::collections::HashMap;
use std::pin::Pin;

use futures_util::{Stream, StreamExt};
use kv_core::{Error, MessageEvent, Result, WatchEvent};
use serde::Serialize;
use serde_json::Value;
use tokio::task::JoinHandle;

use super::output::Output;
use super::response::blocking;
use crate::escape;
use crate::shape::{Failure, StreamEvent};

/// The size of an event.
pub(super) trait EventBytes {
    /// Returns the number of bytes of the value or message.
    fn bytes(&self) -> usize;
}

impl EventBytes for WatchEvent {
    fn bytes(&self) -> usize {
        match self {
            Self::Set { entry: Some(entry), .. } => entry.value.len(),
            _ => 0,
        }
    }
}

impl EventBytes for MessageEvent {
    fn bytes(&self) -> usize {
        match self {
            Self::Message(message) => message.payload.len(),
            _ => 0,
        }
    }
}

/// The running streams, by the id of the request that started each stream.
#[derive(Debug, Default)]
pub(super) struct Streams {
    running: HashMap<String, JoinHandle<()>>,
}

impl Streams {
    /// The maximum number of running streams of a session.
    const MAX: usize = 1_024;

    /// Checks that a stream with this id may start.
    ///
    /// # Errors
    /// `Invalid` if the id is `null` or the id of a running stream; `Capacity` if [`Streams::MAX`] streams are running.
    pub(super) fn check(&mut self, id: &Value) -> Result<()> {
        self.running.retain(|_, task| !task.is_finished());
        if id.is_null() {
            return Err(Error::invalid("the request needs an `id`, which its events repeat"));
        }
        if self.running.contains_key(&id.to_string()) {
            return Err(Error::invalid("a stream with this `id` is running"));
        }
        if self.running.len() >= Self::MAX {
            return Err(Error::capacity(format!("a session holds at most {} streams", Self::MAX)));
        }
        Ok(())
    }

    /// True if a stream is running.
    pub(super) fn is_any_running(&self) -> bool {
        self.running.values().any(|task| !task.is_finished())
    }

    /// Spawns a task that sends the events of the stream, and then `end`.
    pub(super) fn start<T>(&mut self, id: Value, mut stream: Pin<Box<dyn Stream<Item = Result<T>> + Send>>, out: Output)
    where
        T: EventBytes + Send + 'static,
        for<'e> StreamEvent: From<&'e T>,
    {
        let key = id.to_string();
        let task = tokio::spawn(async move {
            let mut is_running = true;
            while is_running {
                let event = stream.next().await;
                is_running = event.is_some();
                let bytes = event.iter().flatten().map(T::bytes).sum();
                // Without a reservation the peer has disconnected.
                let Some(reservation) = out.reserve(bytes).await else { return };
                let (id, stream_id) = (id.clone(), &id);
                let encoded = blocking(bytes, move || line(&id, event)).await;
                let text = if let Ok(Ok(text)) = encoded {
                    text
                } else {
                    // The event is lost, so the stream ends with an error.
                    is_running = false;
                    undeliverable(stream_id)
                };
                if !out.send(text, reservation).await {
                    return;
                }
            }
        });
        self.running.insert(key, task);
    }

    /// Stops a stream. The stream sends nothing afterwards. Returns true if the stream was running.
    pub(super) async fn stop(&mut self, id: &Value) -> bool {
        let Some(task) = self.running.remove(&id.to_string()) else { return false };
        let was_running = !task.is_finished();
        task.abort();
        // Wait for the task, so that it cannot send another line. The task ends with a cancellation error, which is
        // ignored.
        let _ = task.await;
        was_running
    }
}

fn line<T>(id: &Value, event: Option<Result<T>>) -> serde_json::Result<String>
where
    for<'e> StreamEvent: From<&'e T>,
{
    let event = match event {
        Some(Ok(event)) => StreamEvent::from(&event),
        Some(Err(error)) => StreamEvent::Error { error: Failure::from(&error) },
        None => StreamEvent::End,
    };
    // Serialize directly: a tree of `serde_json::Value` would hold a third copy of a large value.
    serde_json::to_string(&EventLine { id, event }).map(escape::json)
}

/// Returns the line of an error instead of an event that cannot be encoded.
fn undeliverable(id: &Value) -> String {
    let error = Failure::from(&Error::defect("the server cannot encode an event, so the stream has ended"));
    // The text of an error can always be encoded.
    let event = serde_json::to_string(&EventLine { id, event: StreamEvent::Error { error } });
    escape::json(event.unwrap_or_default())
}

#[derive(Serialize)]
struct EventLine<'e> {
    id: &'e Value,
    event: StreamEvent,
}

impl Drop for Streams {
    fn drop(&mut self) {
        self.running.values().for_each(JoinHandle::abort);
    }
}
