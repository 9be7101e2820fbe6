//! Messages that are delivered twice, in the wrong order, to the wrong channel or not at all.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use kv_core::{Error, Key, KeyPrefix, KvStore, MessageEvent, MessageStream, Result, SetOptions, delegate_store};

use super::faults;
use super::hidden::Hidden;

faults! { messages:
    /// Delivers a message twice, as a retried publish does.
    delivered_twice: "P-1"
        ["messages/comes_in_order", "messages/dropped_subscription_leaves_the_others",
         "messages/empty_prefix_covers_all", "messages/every_subscriber_gets_it",
         "messages/publishers_keep_their_own_order", "shared/messages_are_heard"]
        |inner, _clock| DeliveredTwice { inner };
    /// Delivers the later of two messages first.
    pairs_are_swapped: "P-1"
        ["messages/comes_in_order", "messages/close_ends_the_stream", "messages/live_when_the_call_returns",
         "messages/reaches_its_channel", "random/messages"]
        |inner, _clock| SwappedPairs { inner, held: Hidden::default() };
    /// Delivers the messages of all channels to every subscriber.
    delivered_to_every_channel: "P-1"
        ["messages/no_subscriber_is_fine", "messages/channels_of_any_text", "messages/prefix_covers_whole_segments"]
        |inner, _clock| AllChannels { inner };
    /// Truncates a payload at the size limit of PostgreSQL's NOTIFY.
    truncated_at_8000_bytes: "P-1"
        ["messages/payload_over_the_limit_is_invalid", "messages/mebibyte_payloads"]
        |inner, _clock| Truncated { inner };
    /// Does not deliver empty messages.
    empty_messages_are_dropped: "P-1"
        ["messages/payloads_of_any_bytes"]
        |inner, _clock| Filtered { inner, is_kept: |event| {
            !matches!(event, MessageEvent::Message(message) if message.payload.is_empty())
        } };
    /// Drops messages of a slow subscriber, and reports no gap.
    loss_is_silent: "P-1"
        ["messages/slow_subscriber_is_told_of_its_loss", "messages/slow_subscriber_of_large_payloads"]
        |inner, _clock| Filtered { inner, is_kept: |event| !matches!(event, MessageEvent::Gap { .. }) };
    /// Stores each message as an entry under its channel.
    stored_as_entries: "P-1"
        ["messages/is_not_stored", "messages/is_no_change"]
        |inner, _clock| StoredMessages { inner };
    /// Never frees the resources of a dropped subscription, so the store fails after 200 subscriptions.
    dropped_subscriptions_leak: "P-2"
        ["messages/dropped_subscriptions_cost_nothing"]
        |inner, _clock| Leaking { inner, remaining: AtomicUsize::new(200) };
    /// Subscribes at the first read of the stream.
    registers_late: "P-1"
        ["messages/nothing_from_before"]
        |inner, _clock| RegistersLate { inner };
}

#[derive(Debug)]
struct DeliveredTwice {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for DeliveredTwice {
    delegate_store!(self.inner, except publish);

    async fn publish(&self, channel: &Key, message: Bytes) -> Result<()> {
        self.inner.publish(channel, message.clone()).await?;
        self.inner.publish(channel, message).await
    }
}

#[derive(Debug)]
struct SwappedPairs {
    inner: Arc<dyn KvStore>,
    held: Hidden<Option<(Key, Bytes)>>,
}

#[async_trait]
impl KvStore for SwappedPairs {
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
struct AllChannels {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for AllChannels {
    delegate_store!(self.inner, except subscribe);

    async fn subscribe(&self, _channels: &KeyPrefix) -> Result<MessageStream> {
        self.inner.subscribe(&KeyPrefix::ALL).await
    }
}

#[derive(Debug)]
struct Truncated {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for Truncated {
    delegate_store!(self.inner, except publish);

    async fn publish(&self, channel: &Key, mut message: Bytes) -> Result<()> {
        message.truncate(8_000);
        self.inner.publish(channel, message).await
    }
}

/// Drops the events of a subscription for which `is_kept` returns false.
pub(super) struct Filtered {
    pub(super) inner: Arc<dyn KvStore>,
    pub(super) is_kept: fn(&MessageEvent) -> bool,
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
struct RegistersLate {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for RegistersLate {
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
struct StoredMessages {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for StoredMessages {
    delegate_store!(self.inner, except publish);

    async fn publish(&self, channel: &Key, message: Bytes) -> Result<()> {
        self.inner.publish(channel, message.clone()).await?;
        self.inner.set(channel, message, &SetOptions::default()).await.map(|_| ())
    }
}

#[derive(Debug)]
struct Leaking {
    inner: Arc<dyn KvStore>,
    remaining: AtomicUsize,
}

#[async_trait]
impl KvStore for Leaking {
    delegate_store!(self.inner, except subscribe);

    async fn subscribe(&self, channels: &KeyPrefix) -> Result<MessageStream> {
        let remaining =
            self.remaining.fetch_update(Ordering::AcqRel, Ordering::Acquire, |remaining| remaining.checked_sub(1));
        remaining.map_err(|_| Error::capacity("too many subscriptions"))?;
        self.inner.subscribe(channels).await
    }
}
