//! The event stream of a subscription over the messages of a hub.

use futures_util::stream;

use crate::hub::{Delivery, Inbox, Messages};
use crate::message::{MessageEvent, MessageStream};

/// Creates the stream of a subscription from an [`Inbox`] of messages.
pub fn deliver(inbox: Inbox<Messages>) -> MessageStream {
    Box::pin(stream::unfold(inbox, |mut inbox| async move {
        let event = match inbox.next().await? {
            Delivery::Item(message) => MessageEvent::Message(message),
            Delivery::Suspended(reason) => MessageEvent::Suspended { reason },
            Delivery::Gap(reason) => MessageEvent::Gap { reason },
        };
        Some((Ok(event), inbox))
    }))
}
