//! Publishing and subscribing.

use std::sync::Arc;

use bytes::Bytes;
use kv_core::adapter::Effect;
use kv_core::{Capability, Key, KeyPrefix, MessageStream, Result};

use crate::error::read_error;
use crate::listener::hubs::Kind;
use crate::listener::task::listen;
use crate::server::router::Request;
use crate::state::State;

impl State {
    pub(crate) async fn publish(&self, channel: &Key, message: Bytes) -> Result<()> {
        self.check_open()?;
        self.info.limits.check_message(message.len())?;
        let (name, slot) = self.hubs.channel(channel);
        let mut cmd = redis::cmd("PUBLISH");
        cmd.arg(name).arg(message.as_ref());
        let reply = self.call(&Request::new(slot, cmd)).await;
        reply.map(drop).map_err(|failure| failure.into_error(Effect::Write(None)))
    }

    pub(crate) async fn subscribe(self: &Arc<Self>, channels: &KeyPrefix) -> Result<MessageStream> {
        self.check_open()?;
        self.info.capabilities.require(Capability::Messages)?;
        // The listener only receives messages while the hub has a subscription, so a first subscription starts the
        // listener. The stream gets a second subscription, made after the listener is ready. Therefore the stream gets
        // no message that was published before the call.
        let hub = &self.hubs.watchers.messages;
        let first = hub.subscribe(channels.clone());
        listen(self, Kind::Messages).await.map_err(read_error)?;
        let inbox = hub.subscribe(channels.clone());
        drop(first);
        Ok(kv_core::deliver(inbox))
    }
}
