//! Publishing and subscribing.
//!
//! Messages reach only the subscribers of this store in this process.

use bytes::Bytes;
use kv_core::{Key, KeyPrefix, Message, MessageStream, Result, deliver};

use crate::state::State;

impl State {
    pub(crate) fn publish(&self, channel: &Key, payload: Bytes) -> Result<()> {
        self.check_open()?;
        self.info.limits.check_message(payload.len())?;
        self.messages.notify(&Message { channel: channel.clone(), payload });
        Ok(())
    }

    pub(crate) fn subscribe(&self, channels: &KeyPrefix) -> Result<MessageStream> {
        self.check_open()?;
        Ok(deliver(self.messages.subscribe(channels.clone())))
    }
}
