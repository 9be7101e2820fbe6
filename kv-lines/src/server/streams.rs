//! The watches and subscriptions of a session.

use std::collections::HashMap;
use std::pin::Pin;

use futures_util::{Stream, StreamExt};
use kv_core::{Error, MessageEvent, Result, WatchEvent};
use serde::Serialize;
use serde_json::Value;
use tokio::task::JoinHandle;

use super::answer::blocking;
use super::output::Output;
use crate::escape;
use crate::shape::{Failure, StreamEvent};

/// An event of known size.
pub(super) trait EventBytes {
    /// The bytes of the value or message.
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

/// The running streams, by the id of the request that started each.
#[derive(Debug, Default)]
pub(super) struct Streams {
    running: HashMap<String, JoinHandle<()>>,
}

impl Streams {
    /// The most streams of a session.
    const MAX: usize = 1_024;

    /// Rejects an id that cannot identify a new stream, and a stream above the limit.
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

    /// Spawns a task that sends the events of the stream and its end.
    pub(super) fn start<T>(&mut self, id: Value, mut stream: Pin<Box<dyn Stream<Item = Result<T>> + Send>>, out: Output)
    where
        T: EventBytes + Send + 'static,
        for<'e> StreamEvent: From<&'e T>,
    {
        let name = id.to_string();
        let task = tokio::spawn(async move {
            let mut is_running = true;
            while is_running {
                let event = stream.next().await;
                is_running = event.is_some();
                let bytes = event.iter().flatten().map(T::bytes).sum();
                // An error means that the peer has disconnected.
                let Some(room) = out.reserve(bytes).await else { return };
                let id = id.clone();
                let Some(line) = blocking(bytes, move || line(&id, event)).await else { return };
                if !out.send(line, room).await {
                    return;
                }
            }
        });
        self.running.insert(name, task);
    }

    /// Stops a stream, which sends nothing afterwards. Returns true if it was running.
    pub(super) async fn stop(&mut self, id: &Value) -> bool {
        let Some(task) = self.running.remove(&id.to_string()) else { return false };
        let was_running = !task.is_finished();
        task.abort();
        // Wait for the task, so that it cannot send another line. Its error is the cancellation.
        let _ = task.await;
        was_running
    }
}

fn line<T>(id: &Value, event: Option<Result<T>>) -> String
where
    for<'e> StreamEvent: From<&'e T>,
{
    let event = match event {
        Some(Ok(event)) => StreamEvent::from(&event),
        Some(Err(error)) => StreamEvent::Error { error: Failure::from(&error) },
        None => StreamEvent::End,
    };
    // Not through a tree of `serde_json::Value`, which would be a third copy of a large value. It cannot fail: all map
    // keys are strings.
    escape::json(serde_json::to_string(&EventLine { id, event }).unwrap_or_default())
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
