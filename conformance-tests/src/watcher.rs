//! Watchers and subscribers that wait for events with a timeout.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use kv_core::{Entry, Key, KeyPrefix, KvStore, MessageEvent, MessageStream, WatchEvent, WatchQuery, WatchStream};

use crate::activity::Activity;
use crate::failure::{Failure, Verdict, ensure, ensure_eq};
use crate::recorder::Recorder;

/// The timeout for an event that must come. It is long, because a background task of a store on a busy machine may start
/// late, and only a failure waits for it.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Returns the next item of a stream, or `None` at its end. Fails if the stream is silent for [`TIMEOUT`] after the
/// last operation of the case has ended, so a slow writer does not make the stream fail.
async fn next<T>(
    stream: &mut (impl Stream<Item = kv_core::Result<T>> + Unpin),
    activity: &Activity,
) -> Result<Option<T>, Failure> {
    loop {
        match tokio::time::timeout(TIMEOUT, stream.next()).await {
            Ok(item) => return Ok(item.transpose()?),
            Err(_) if activity.quiet_for() < TIMEOUT => {}
            Err(_) => {
                return Err(Failure::new(format!("expected an event, but the stream sent nothing for {TIMEOUT:?}")));
            }
        }
    }
}

/// Reads the rest of a stream whose store was closed. Fails unless the stream ends. An error also ends the stream.
async fn expect_end<T>(stream: &mut (impl Stream<Item = kv_core::Result<T>> + Unpin)) -> Verdict {
    let end = async { while let Some(Ok(_)) = stream.next().await {} };
    let ended = tokio::time::timeout(TIMEOUT, end).await;
    ensure!(ended.is_ok(), "`close` was called, but the stream did not end within {TIMEOUT:?}");
    Ok(())
}

/// The failure of a stream that ended while its store is open.
pub(crate) fn ended_early() -> Failure {
    Failure::new("expected an event, but the stream ended although the store is open")
}

/// A watch whose events must come within the timeout.
pub(crate) struct Watcher {
    stream: WatchStream,
    activity: Activity,
}

impl Watcher {
    pub(crate) async fn start(store: &Recorder, query: WatchQuery) -> Result<Self, Failure> {
        Ok(Self { stream: store.watch(&query).await?, activity: store.activity().clone() })
    }

    /// The next event, or `None` at the end of the stream. Skips `Suspended`, which is advisory.
    pub(crate) async fn next(&mut self) -> Result<Option<WatchEvent>, Failure> {
        loop {
            match next(&mut self.stream, &self.activity).await? {
                Some(WatchEvent::Suspended { .. }) => {}
                event => return Ok(event),
            }
        }
    }

    /// The next event. Fails for a gap and for the end of the stream.
    pub(crate) async fn event(&mut self) -> Result<WatchEvent, Failure> {
        match self.next().await? {
            Some(WatchEvent::Gap { reason }) => Err(Failure::new(format!(
                "expected no gap, since nothing was lost, but the watch sent Gap({reason:?})"
            ))),
            Some(event) => Ok(event),
            None => Err(ended_early()),
        }
    }

    /// Waits for the event that shows this value of the key, and returns the entry. Skips all earlier events.
    pub(crate) async fn expect_set(&mut self, wanted: &Key, value: impl AsRef<[u8]>) -> Result<Entry, Failure> {
        let value = value.as_ref();
        loop {
            match self.event_before(wanted).await? {
                WatchEvent::Set { key, entry: Some(entry) } if key == *wanted && entry.value == value => {
                    return Ok(entry);
                }
                _ => {}
            }
        }
    }

    /// Waits for the event of the key's removal. Skips all earlier events.
    pub(crate) async fn expect_removed(&mut self, wanted: &Key) -> Verdict {
        while self.event_before(wanted).await? != (WatchEvent::Removed { key: wanted.clone() }) {}
        Ok(())
    }

    /// The next event. A failure names `wanted`, the key whose event the caller waits for.
    async fn event_before(&mut self, wanted: &Key) -> Result<WatchEvent, Failure> {
        let add_key = |failure| Failure::new(format!("while waiting for the watch event of {wanted}: {failure}"));
        self.event().await.map_err(add_key)
    }

    /// Returns all events before the event that shows this value of the sentinel. The sentinel is the key that the case
    /// writes last.
    pub(crate) async fn events_until(&mut self, sentinel: &Key, value: &str) -> Result<Vec<WatchEvent>, Failure> {
        let mut events = Vec::new();
        loop {
            match self.event_before(sentinel).await? {
                WatchEvent::Set { key, entry: Some(entry) } if key == *sentinel && entry.value == value => {
                    return Ok(events);
                }
                event => events.push(event),
            }
        }
    }

    /// Fails unless the stream ends. The caller must have closed the store.
    pub(crate) async fn expect_end(mut self) -> Verdict {
        expect_end(&mut self.stream).await
    }
}

/// The key of an event.
pub(crate) fn key_of(event: &WatchEvent) -> Option<&Key> {
    match event {
        WatchEvent::Set { key, .. } | WatchEvent::Removed { key } => Some(key),
        _ => None,
    }
}

/// A subscription whose messages must come within the timeout.
pub(crate) struct Subscriber {
    stream: MessageStream,
    activity: Activity,
}

impl Subscriber {
    pub(crate) async fn start(store: &Recorder, channels: impl Into<KeyPrefix>) -> Result<Self, Failure> {
        Ok(Self { stream: store.subscribe(&channels.into()).await?, activity: store.activity().clone() })
    }

    /// The next event, or `None` at the end of the stream. Skips `Suspended`, which is advisory.
    pub(crate) async fn next(&mut self) -> Result<Option<MessageEvent>, Failure> {
        loop {
            match next(&mut self.stream, &self.activity).await? {
                Some(MessageEvent::Suspended { .. }) => {}
                event => return Ok(event),
            }
        }
    }

    /// The channel and payload of the next message. Fails for a gap and for the end of the stream.
    pub(crate) async fn message(&mut self) -> Result<(Key, Bytes), Failure> {
        match self.next().await? {
            Some(MessageEvent::Message(message)) => Ok((message.channel, message.payload)),
            Some(event) => Err(Failure::new(format!(
                "expected a message, since none was lost, but the subscription sent {event:?}"
            ))),
            None => Err(ended_early()),
        }
    }

    /// Fails unless the next message has this channel and payload.
    pub(crate) async fn expect_message(&mut self, channel: &Key, payload: impl AsRef<[u8]>) -> Verdict {
        let message = self.message().await?;
        let expected = (channel.clone(), Bytes::copy_from_slice(payload.as_ref()));
        ensure_eq!(message, expected, "channel and payload of the next message");
        Ok(())
    }

    /// Fails unless the stream ends. The caller must have closed the store.
    pub(crate) async fn expect_end(mut self) -> Verdict {
        expect_end(&mut self.stream).await
    }
}
