//! Publishing and subscribing.

use std::future::poll_fn;
use std::task::{Poll, ready};

use bytes::Bytes;
use kv_core::{BoxFuture, Key, KeyPrefix, Message, MessageStream, Operation, Result, deliver};

use crate::error::CONTEXT;
use crate::state::State;
use crate::yielding::poll_charge;

impl State {
    #[inline]
    pub(crate) fn publish<'call>(&'call self, channel: &'call Key, payload: Bytes) -> BoxFuture<'call, Result<()>> {
        let mut payload = payload;
        // This function uses `poll_fn`, because an `async` block would move the payload once more.
        Box::pin(poll_fn(move |context| {
            ready!(poll_charge(1, context));
            Poll::Ready(CONTEXT.key(Operation::Publish, channel, self.notify(channel, std::mem::take(&mut payload))))
        }))
    }

    fn notify(&self, channel: &Key, payload: Bytes) -> Result<()> {
        self.check_open()?;
        self.info.limits.check_message(payload.len())?;
        self.messages.notify(&Message { channel: channel.clone(), payload });
        Ok(())
    }

    pub(crate) async fn subscribe(&self, channels: &KeyPrefix) -> Result<MessageStream> {
        self.admit(1).await?;
        Ok(deliver(self.messages.subscribe(channels.clone())))
    }
}
