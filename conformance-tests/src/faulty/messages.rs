//! Messages that come twice, in the wrong order, or to the wrong channel.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use kv_core::{Error, Key, KeyPrefix, KvStore, MessageEvent, MessageStream, Result, SetOptions, delegate_store};

use super::faults;
use super::kept::Kept;

faults! { messages:
    come_twice: "P-1" "delivers a message again, as a retried publish does"
        ["messages/comes_in_order", "messages/dropped_subscription_leaves_the_others",
         "messages/empty_prefix_covers_all", "messages/every_subscriber_gets_it",
         "messages/publishers_keep_their_own_order", "shared/messages_are_heard"]
        |inner, _clock| Twice { inner };
    come_in_pairs_swapped: "P-1" "delivers the later of two messages first"
        ["messages/comes_in_order", "messages/close_ends_the_stream", "messages/live_when_the_call_returns",
         "messages/reaches_its_channel"]
        |inner, _clock| Swapped { inner, held: Kept::default() };
    reach_every_channel: "P-1" "delivers the messages of all channels to every subscriber"
        ["messages/no_subscriber_is_fine", "messages/channels_of_any_text", "messages/prefix_covers_whole_segments"]
        |inner, _clock| Everywhere { inner };
    are_cut_at_8000_bytes: "P-1" "cuts a payload off where PostgreSQL's NOTIFY ends"
        ["messages/payload_over_the_limit_is_invalid", "messages/mebibyte_payloads"]
        |inner, _clock| Cut { inner };
    empty_ones_are_lost: "P-1" "does not deliver an empty message"
        ["messages/payloads_of_any_bytes"]
        |inner, _clock| Filtered { inner, is_kept: |event| {
            !matches!(event, MessageEvent::Message(message) if message.payload.is_empty())
        } };
    loss_is_silent: "P-1" "drops messages for a slow subscriber and does not say so"
        ["messages/slow_subscriber_is_told_of_its_loss", "messages/slow_subscriber_of_large_payloads"]
        |inner, _clock| Filtered { inner, is_kept: |event| !matches!(event, MessageEvent::Gap { .. }) };
    are_stored: "P-1" "writes each message under its channel"
        ["messages/is_not_stored", "messages/is_no_change"]
        |inner, _clock| Stored { inner };
    dropped_subscriptions_stay: "P-2" "keeps what a subscription holds when its stream is dropped, until nothing is left"
        ["messages/dropped_subscriptions_cost_nothing"]
        |inner, _clock| Leaking { inner, left: AtomicUsize::new(200) };
    subscribe_late: "P-1" "subscribes when the stream is first read"
        ["messages/nothing_from_before"]
        |inner, _clock| Late { inner };
}

#[derive(Debug)]
struct Twice {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for Twice {
    delegate_store!(self.inner, except publish);

    async fn publish(&self, channel: &Key, message: Bytes) -> Result<()> {
        self.inner.publish(channel, message.clone()).await?;
        self.inner.publish(channel, message).await
    }
}

#[derive(Debug)]
struct Swapped {
    inner: Arc<dyn KvStore>,
    held: Kept<Option<(Key, Bytes)>>,
}

#[async_trait]
impl KvStore for Swapped {
    delegate_store!(self.inner, except publish);

    async fn publish(&self, channel: &Key, message: Bytes) -> Result<()> {
        self.inner.ping().await?;
        let held = {
            let mut held = self.held.lock();
            let Some(earlier) = held.take() else {
                *held = Some((channel.clone(), message));
                return Ok(());
            };
            earlier
        };
        self.inner.publish(channel, message).await?;
        self.inner.publish(&held.0, held.1).await
    }
}

#[derive(Debug)]
struct Everywhere {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for Everywhere {
    delegate_store!(self.inner, except subscribe);

    async fn subscribe(&self, _channels: &KeyPrefix) -> Result<MessageStream> {
        self.inner.subscribe(&KeyPrefix::ALL).await
    }
}

#[derive(Debug)]
struct Cut {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for Cut {
    delegate_store!(self.inner, except publish);

    async fn publish(&self, channel: &Key, mut message: Bytes) -> Result<()> {
        message.truncate(8_000);
        self.inner.publish(channel, message).await
    }
}

/// Leaves out what a subscriber should get.
struct Filtered {
    inner: Arc<dyn KvStore>,
    is_kept: fn(&MessageEvent) -> bool,
}

impl fmt::Debug for Filtered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Filtered").finish_non_exhaustive()
    }
}

#[async_trait]
impl KvStore for Filtered {
    delegate_store!(self.inner, except subscribe);

    async fn subscribe(&self, channels: &KeyPrefix) -> Result<MessageStream> {
        let is_kept = self.is_kept;
        let events = self.inner.subscribe(channels).await?;
        Ok(Box::pin(events.filter(move |event| std::future::ready(event.as_ref().map_or(true, is_kept)))))
    }
}

#[derive(Debug)]
struct Late {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for Late {
    delegate_store!(self.inner, except subscribe);

    async fn subscribe(&self, channels: &KeyPrefix) -> Result<MessageStream> {
        self.inner.ping().await?;
        let (inner, channels) = (Arc::clone(&self.inner), channels.clone());
        let subscribing = async move {
            match inner.subscribe(&channels).await {
                Ok(events) => events,
                Err(error) => Box::pin(futures_util::stream::iter([Err(error)])) as MessageStream,
            }
        };
        Ok(Box::pin(futures_util::stream::once(subscribing).flatten()))
    }
}

#[derive(Debug)]
struct Stored {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for Stored {
    delegate_store!(self.inner, except publish);

    async fn publish(&self, channel: &Key, message: Bytes) -> Result<()> {
        self.inner.publish(channel, message.clone()).await?;
        self.inner.set(channel, message, &SetOptions::default()).await.map(|_| ())
    }
}

#[derive(Debug)]
struct Leaking {
    inner: Arc<dyn KvStore>,
    left: AtomicUsize,
}

#[async_trait]
impl KvStore for Leaking {
    delegate_store!(self.inner, except subscribe);

    async fn subscribe(&self, channels: &KeyPrefix) -> Result<MessageStream> {
        let left = self.left.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1));
        left.map_err(|_| Error::capacity("too many subscriptions"))?;
        self.inner.subscribe(channels).await
    }
}
