//! Publishing and subscribing.
//!
//! A message reaches the subscribers of every handle of this process that has the same table of the same file open.

use bytes::Bytes;
use kv_core::{Key, KeyPrefix, Message, MessageStream, Result};

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
        Ok(kv_core::deliver(self.messages.subscribe(channels.clone())))
    }
}
