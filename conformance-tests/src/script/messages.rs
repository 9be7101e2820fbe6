//! The subscription of a script.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use kv_core::{Error, Key, KvStore, MessageEvent, MessageStream, Version};

use super::answer::Answer;
use super::model::prefix;
use super::step::KeyIndex;

/// Time to wait for the next message.
const PATIENCE: Duration = Duration::from_secs(5);

/// A subscription. Its messages are read up to a mark, which the script publishes after the last message.
pub(super) struct Subscription {
    stream: MessageStream,
    /// The channel of the marks, which the subscription covers.
    channel: Key,
    marks: usize,
}

impl Subscription {
    pub(super) async fn start(store: &Arc<dyn KvStore>, channels: Option<KeyIndex>) -> Result<Self, Error> {
        let stream = store.subscribe(&prefix(channels)).await?;
        Ok(Self { stream, channel: channels.unwrap_or(KeyIndex(0)).key(), marks: 0 })
    }

    /// Publishes a mark and returns the messages before it.
    pub(super) async fn read(&mut self, store: &Arc<dyn KvStore>) -> Result<Answer<Version>, Error> {
        self.marks += 1;
        let mark = Bytes::from(format!("mark {}", self.marks));
        store.publish(&self.channel, mark.clone()).await?;
        let mut messages = Vec::new();
        loop {
            let text = match tokio::time::timeout(PATIENCE, self.stream.next()).await {
                Ok(Some(Ok(MessageEvent::Message(message)))) if message.payload == mark => {
                    return Ok(Answer::Messages(messages));
                }
                Ok(Some(Ok(MessageEvent::Message(message)))) => {
                    messages.push((KeyIndex::of(&message.channel), message.payload));
                    continue;
                }
                Ok(Some(Ok(other))) => format!("{other:?}, although no message was lost"),
                Ok(Some(Err(error))) => return Err(error),
                Ok(None) => "the end of the subscription".to_owned(),
                Err(_) => format!("no message for {PATIENCE:?}"),
            };
            return Ok(Answer::Failed(format!("{messages:?} and then {text}")));
        }
    }
}
