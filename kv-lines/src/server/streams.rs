//! The watches and subscriptions of a session.

use std::collections::HashMap;
use std::pin::Pin;

use futures_util::{Stream, StreamExt};
use kv_core::{Error, Result};
use serde_json::{Value, json};
use tokio::sync::mpsc::Sender;
use tokio::task::JoinHandle;

use crate::escape;
use crate::shape::{Failure, StreamEvent};

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

    /// Spawns a task that sends the events of the stream and its end.
    pub(super) fn start<T>(
        &mut self,
        id: Value,
        mut stream: Pin<Box<dyn Stream<Item = Result<T>> + Send>>,
        out: Sender<String>,
    ) where
        T: Send + 'static,
        for<'e> StreamEvent: From<&'e T>,
    {
        let name = id.to_string();
        let task = tokio::spawn(async move {
            while let Some(event) = stream.next().await {
                let event = match event {
                    Ok(event) => StreamEvent::from(&event),
                    Err(error) => StreamEvent::Error { error: Failure::from(&error) },
                };
                let line = json!({"id": id, "event": event});
                if out.send(escape::json(line.to_string())).await.is_err() {
                    return;
                }
            }
            // An error means that the peer has disconnected.
            let _ = out.send(json!({"id": id, "event": StreamEvent::End}).to_string()).await;
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

impl Drop for Streams {
    fn drop(&mut self) {
        self.running.values().for_each(JoinHandle::abort);
    }
}
