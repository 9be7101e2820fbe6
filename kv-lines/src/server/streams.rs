//! The watches and subscriptions of a session.

use std::collections::HashMap;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use kv_core::{Error, ErrorKind, GapReason, Key, Kv, KvStore, MessageEvent, Result, WatchEvent};
use serde::Serialize;
use serde_json::Value;
use tokio::task::JoinHandle;

use super::output::{Output, Reservation};
use super::response::blocking;
use crate::escape;
use crate::shape::{Failure, StreamEvent};

/// An event of a watch or of a subscription.
#[derive(Debug)]
pub(super) enum Event {
    Watch(WatchEvent),
    Message(MessageEvent),
}

impl Event {
    /// Returns the number of bytes of the value or message.
    fn bytes(&self) -> usize {
        match self {
            Self::Watch(WatchEvent::Set { entry: Some(entry), .. }) => entry.value.len(),
            Self::Message(MessageEvent::Message(message)) => message.payload.len(),
            _ => 0,
        }
    }

    /// Returns the key of the entry in the event. Such an entry can be read again.
    fn entry_key(&self) -> Option<&Key> {
        match self {
            Self::Watch(WatchEvent::Set { key, entry: Some(_) }) => Some(key),
            _ => None,
        }
    }
}

impl From<&Event> for StreamEvent {
    fn from(event: &Event) -> Self {
        match event {
            Event::Watch(event) => event.into(),
            Event::Message(event) => event.into(),
        }
    }
}

/// The source of the events of a stream.
pub(super) struct Source {
    pub(super) kv: Kv,
    pub(super) events: BoxStream<'static, Result<Event>>,
}

impl Source {
    /// Waits for the next event, and reserves memory for its line. The event is `None` at the end of the stream.
    /// Returns `None` if the peer has disconnected.
    async fn next(&mut self, out: &Output) -> Option<(Option<Result<Event>>, Reservation)> {
        loop {
            let event = self.events.next().await;
            let bytes = event.iter().flatten().map(Event::bytes).sum();
            let key = event.iter().flatten().find_map(Event::entry_key).cloned();
            let Some(key) = key else { return Some((event, out.reserve(bytes).await?)) };
            if let Some(reservation) = out.try_reserve(bytes) {
                return Some((event, reservation));
            }
            // A session has up to 1,024 streams, and all of them may report large entries. Hold no entry while waiting.
            drop(event);
            if let (Some(event), reservation) = read_again(&self.kv, key, bytes, out).await? {
                return Some((Some(event), reservation));
            }
        }
    }
}

/// Reserves memory, and then reads the entry of an event. Returns no event if the entry is absent or the store is closed,
/// because the stream reports the removal later, or ends. Returns `None` if the peer has disconnected.
async fn read_again(kv: &Kv, key: Key, mut bytes: usize, out: &Output) -> Option<(Option<Result<Event>>, Reservation)> {
    loop {
        let reservation = out.reserve(bytes).await?;
        let event = match kv.store().get(&key).await {
            // The entry has grown since the memory was reserved.
            Ok(Some(entry)) if entry.value.len() > bytes => {
                bytes = entry.value.len();
                continue;
            }
            Ok(Some(entry)) => Some(Ok(Event::Watch(WatchEvent::Set { key, entry: Some(entry) }))),
            Ok(None) => None,
            Err(error) if error.kind() == ErrorKind::Closed => None,
            // The watcher misses this change, so it gets a gap.
            Err(error) if error.is_retryable() => {
                Some(Ok(Event::Watch(WatchEvent::Gap { reason: GapReason::Reconnected })))
            }
            Err(error) => Some(Err(error)),
        };
        return Some((event, reservation));
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
    pub(super) fn start(&mut self, id: Value, mut source: Source, out: Output) {
        let key = id.to_string();
        let task = tokio::spawn(async move {
            let mut is_running = true;
            while is_running {
                // Without a reservation the peer has disconnected.
                let Some((event, reservation)) = source.next(&out).await else { return };
                is_running = event.is_some();
                let bytes = event.iter().flatten().map(Event::bytes).sum();
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

fn line(id: &Value, event: Option<Result<Event>>) -> serde_json::Result<String> {
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
