//! The watches and subscriptions of a session.

use std::collections::HashMap;
use std::pin::Pin;

use futures_util::{Stream, StreamExt};
use kv_core::{Error, Result};
use serde_json::{Value, json};
use tokio::sync::mpsc::Sender;
use tokio::task::JoinHandle;

use crate::escape;
use crate::shape::{Failure, Heard};

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
    pub(super) fn start<T>(
        &mut self,
        id: Value,
        mut stream: Pin<Box<dyn Stream<Item = Result<T>> + Send>>,
        out: Sender<String>,
    ) where
        T: Send + 'static,
        for<'e> Heard: From<&'e T>,
    {
        let name = id.to_string();
        let task = tokio::spawn(async move {
            while let Some(event) = stream.next().await {
                let heard = match event {
                    Ok(event) => Heard::from(&event),
                    Err(error) => Heard::Error { error: Failure::from(&error) },
                };
                let line = json!({"id": id, "event": heard});
                if out.send(escape::json(line.to_string())).await.is_err() {
                    return;
                }
            }
            // Nobody is there to hear it where this fails.
            let _ = out.send(json!({"id": id, "event": Heard::End}).to_string()).await;
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
