//! Messages that are not stored.

use std::pin::Pin;

use bytes::Bytes;
use futures_util::{Stream, stream};

use crate::error::Result;
use crate::hub::{Delivery, Inbox, Messages};
use crate::key::Key;
use crate::watch::GapReason;

/// One published message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Where it was published.
    pub channel: Key,
    /// What was published.
    pub payload: Bytes,
}

/// What a subscriber gets (clause P-1).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum MessageEvent {
    /// A message; those of one publisher come in order.
    Message(Message),
    /// Messages may have been lost here.
    Gap {
        /// Why.
        reason: GapReason,
    },
}

/// What `subscribe` gives; it ends when the store is closed, and dropping it ends the subscription.
pub type MessageStream = Pin<Box<dyn Stream<Item = Result<MessageEvent>> + Send>>;

/// The stream of an in-process subscription.
pub fn deliver(inbox: Inbox<Messages>) -> MessageStream {
    Box::pin(stream::unfold(inbox, |mut inbox| async move {
        let event = match inbox.next().await? {
            Delivery::Item(message) => MessageEvent::Message(message),
            Delivery::Gap(reason) => MessageEvent::Gap { reason },
        };
        Some((Ok(event), inbox))
    }))
}
