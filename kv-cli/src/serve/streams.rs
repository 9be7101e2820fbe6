//! The watches and subscriptions of a session.

use std::collections::HashMap;

use anykv::{Error, MessageEvent, Result, WatchEvent};
use futures_util::{Stream, StreamExt};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::mpsc::Sender;
use tokio::task::JoinHandle;

use super::execute;
use crate::escape;
use crate::json::{self, ShownEvent};

/// The running streams, each under the id of the request that started it.
#[derive(Debug, Default)]
pub(super) struct Streams {
    running: HashMap<String, JoinHandle<()>>,
}

impl Streams {
    /// How many streams a session can hold.
    const MAX: usize = 1_024;

    /// Refuses an id that cannot name a stream.
    pub(super) fn check(&mut self, id: &Value) -> Result<()> {
        self.running.retain(|_, task| !task.is_finished());
        if id.is_null() {
            return Err(Error::invalid("the request needs an `id`: its events carry it"));
        }
        if self.running.contains_key(&id.to_string()) {
            return Err(Error::invalid("a stream with this `id` is running"));
        }
        if self.running.len() >= Self::MAX {
            return Err(Error::capacity(format!("a session holds at most {} streams", Self::MAX)));
        }
        Ok(())
    }

    /// Sends each event of the stream, and its end, until it is stopped.
    pub(super) fn start<T: Send + 'static>(
        &mut self,
        id: Value,
        mut stream: std::pin::Pin<Box<dyn Stream<Item = Result<T>> + Send>>,
        show: fn(&T) -> Value,
        out: Sender<String>,
    ) {
        let name = id.to_string();
        let task = tokio::spawn(async move {
            while let Some(event) = stream.next().await {
                let line = match event {
                    Ok(event) => json!({"id": id, "event": show(&event)}),
                    Err(error) => json!({"id": id, "event": {"event": "error", "error": execute::error(&error)}}),
                };
                if out.send(escape::json(line.to_string())).await.is_err() {
                    return;
                }
            }
            // Nobody is there to hear it where this fails.
            let _ = out.send(json!({"id": id, "event": {"event": "end"}}).to_string()).await;
        });
        self.running.insert(name, task);
    }

    /// Stops a stream and tells whether it was running; it sends nothing afterwards.
    pub(super) async fn stop(&mut self, id: &Value) -> bool {
        let Some(task) = self.running.remove(&id.to_string()) else { return false };
        let was_running = !task.is_finished();
        task.abort();
        // It was cancelled, or had ended.
        let _ = task.await;
        was_running
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        self.running.values().for_each(JoinHandle::abort);
    }
}

/// A message as it is shown.
#[derive(Debug, Serialize)]
struct ShownMessage {
    event: &'static str,
    channel: Vec<String>,
    #[serde(flatten)]
    payload: json::Value,
}

pub(super) fn watch_event(event: &WatchEvent) -> Value {
    json!(ShownEvent::of(event, execute::segments))
}

pub(super) fn message_event(event: &MessageEvent) -> Value {
    match event {
        MessageEvent::Message(message) => {
            let channel = execute::segments(&message.channel);
            json!(ShownMessage { event: "message", channel, payload: json::Value::of(&message.payload) })
        }
        MessageEvent::Gap { reason } => json!({"event": "gap", "reason": json::gap(*reason)}),
        _ => json!({"event": "unknown"}),
    }
}
