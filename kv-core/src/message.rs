//! Published messages and the events of a subscription.

use std::pin::Pin;

use bytes::Bytes;
use futures_util::Stream;

use crate::error::Result;
use crate::key::Key;
use crate::watch::GapReason;

/// One published message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The channel on which the message was published.
    pub channel: Key,
    /// The published bytes.
    pub payload: Bytes,
}

/// An event that a subscriber receives (clause P-1).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum MessageEvent {
    /// A message. Messages of one publisher arrive in order.
    Message(Message),
    /// Messages are possibly lost from now on. This event is advisory: it may be false, and it may be missing. The next
    /// event about the loss is a `Gap`, or the stream ends.
    Suspended {
        /// The cause.
        reason: GapReason,
    },
    /// Messages may have been lost at this point.
    Gap {
        /// The cause.
        reason: GapReason,
    },
}

/// A subscription's events. The stream ends when the store is closed. The subscription ends when the stream is dropped.
pub type MessageStream = Pin<Box<dyn Stream<Item = Result<MessageEvent>> + Send>>;
