//! Streams of changes and of messages, heard with a limit to patience.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use kv_core::{Entry, Key, KeyPrefix, KvStore, MessageEvent, MessageStream, WatchEvent, WatchQuery, WatchStream};

use crate::failure::{Failure, Verdict, ensure, ensure_eq};
use crate::recorder::Recorder;

/// How long something that must come may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The next item of a stream, or its end. Fails where neither comes in time.
async fn next<T>(stream: &mut (impl Stream<Item = kv_core::Result<T>> + Unpin)) -> Result<Option<T>, Failure> {
    match tokio::time::timeout(PATIENCE, stream.next()).await {
        Ok(item) => Ok(item.transpose()?),
        Err(_) => Err(Failure::new(format!("the stream gave nothing for {PATIENCE:?}"))),
    }
}

/// Hears the rest of a stream whose store was closed: it has to end, and a last `Closed` is fine.
async fn ends<T>(stream: &mut (impl Stream<Item = kv_core::Result<T>> + Unpin)) -> Verdict {
    let end = async { while let Some(Ok(_)) = stream.next().await {} };
    let ended = tokio::time::timeout(PATIENCE, end).await;
    ensure!(ended.is_ok(), "the store was closed, and its stream has not ended after {PATIENCE:?}");
    Ok(())
}

/// A watch.
pub(crate) struct Watcher {
    stream: WatchStream,
}

impl Watcher {
    pub(crate) async fn start(store: &Recorder, query: WatchQuery) -> Result<Self, Failure> {
        Ok(Self { stream: store.watch(&query).await? })
    }

    /// The next event, or the end of the stream.
    pub(crate) async fn next(&mut self) -> Result<Option<WatchEvent>, Failure> {
        next(&mut self.stream).await
    }

    /// The next event, which has to come and to be no gap.
    pub(crate) async fn event(&mut self) -> Result<WatchEvent, Failure> {
        match self.next().await? {
            Some(WatchEvent::Gap { reason }) => Err(Failure::new(format!("a gap where nothing was lost: {reason:?}"))),
            Some(event) => Ok(event),
            None => Err(Failure::new("the stream ended, and the store is open")),
        }
    }

    /// Waits for the report that the key holds this value. Earlier states of it may be reported before, or not.
    pub(crate) async fn hears_set(&mut self, wanted: &Key, value: impl AsRef<[u8]>) -> Result<Entry, Failure> {
        let value = value.as_ref();
        loop {
            match self.awaited(wanted).await? {
                WatchEvent::Set { key, entry: Some(entry) } if key == *wanted && entry.value == value => {
                    return Ok(entry);
                }
                _ => {}
            }
        }
    }

    /// Waits for the report that the key holds nothing.
    pub(crate) async fn hears_removed(&mut self, wanted: &Key) -> Verdict {
        while self.awaited(wanted).await? != (WatchEvent::Removed { key: wanted.clone() }) {}
        Ok(())
    }

    async fn awaited(&mut self, wanted: &Key) -> Result<WatchEvent, Failure> {
        self.event().await.map_err(|failure| Failure::new(format!("waiting to hear of {wanted}: {failure}")))
    }

    /// What is reported up to the news that the key of a last write, the sentinel, holds this value.
    pub(crate) async fn until(&mut self, sentinel: &Key, value: &str) -> Result<Vec<WatchEvent>, Failure> {
        let mut heard = Vec::new();
        loop {
            match self.awaited(sentinel).await? {
                WatchEvent::Set { key, entry: Some(entry) } if key == *sentinel && entry.value == value => {
                    return Ok(heard);
                }
                event => heard.push(event),
            }
        }
    }

    /// Fails where the stream does not end, now that the store was closed.
    pub(crate) async fn ends(mut self) -> Verdict {
        ends(&mut self.stream).await
    }
}

/// The key that an event is about.
pub(crate) fn key_of(event: &WatchEvent) -> Option<&Key> {
    match event {
        WatchEvent::Set { key, .. } | WatchEvent::Removed { key } => Some(key),
        _ => None,
    }
}

/// A subscription.
pub(crate) struct Listener {
    stream: MessageStream,
}

impl Listener {
    pub(crate) async fn start(store: &Recorder, channels: impl Into<KeyPrefix>) -> Result<Self, Failure> {
        Ok(Self { stream: store.subscribe(&channels.into()).await? })
    }

    /// The next event, or the end of the stream.
    pub(crate) async fn next(&mut self) -> Result<Option<MessageEvent>, Failure> {
        next(&mut self.stream).await
    }

    /// The next message, which has to come; a gap is none.
    pub(crate) async fn message(&mut self) -> Result<(Key, Bytes), Failure> {
        match self.next().await? {
            Some(MessageEvent::Message(message)) => Ok((message.channel, message.payload)),
            Some(event) => Err(Failure::new(format!("a gap where nothing was lost: {event:?}"))),
            None => Err(Failure::new("the stream ended, and the store is open")),
        }
    }

    /// Fails unless the next message is this one.
    pub(crate) async fn hears(&mut self, channel: &Key, payload: impl AsRef<[u8]>) -> Verdict {
        let heard = self.message().await?;
        ensure_eq!(heard, (channel.clone(), Bytes::copy_from_slice(payload.as_ref())), "the next message");
        Ok(())
    }

    /// Fails where the stream does not end, now that the store was closed.
    pub(crate) async fn ends(mut self) -> Verdict {
        ends(&mut self.stream).await
    }
}
