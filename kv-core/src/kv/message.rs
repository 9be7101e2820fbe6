//! Publishing and subscribing.

use bytes::Bytes;
use serde::Serialize;

use super::handle::Kv;
use crate::error::{Operation, Result};
use crate::key::{IntoKey, IntoPrefix, Key};
use crate::message::MessageStream;

impl Kv {
    /// Publishes a value to the current subscribers of a channel. A channel without subscribers is not an error.
    /// [`Kv::decode`] reads the payload.
    ///
    /// # Errors
    /// `Unsupported` without the messages capability. `Invalid` for an invalid channel, or if the message cannot be
    /// encoded or is too large.
    ///
    /// # Cancel safety
    /// If the future is dropped, the message is not sent, was sent, or will be sent.
    pub async fn publish<T: Serialize + Sync + ?Sized>(&self, channel: impl IntoKey + Send, message: &T) -> Result<()> {
        let channel = channel.into_key()?;
        let context = |error: crate::Error| error.with_operation(Operation::Publish).with_key(&channel);
        let message = self.codec.encode(message).map_err(context)?;
        self.send(&channel, message).await
    }

    /// Publishes bytes without encoding them. Otherwise it works as [`Kv::publish`].
    ///
    /// # Errors
    /// The errors of [`Kv::publish`].
    ///
    /// # Cancel safety
    /// The same as for [`Kv::publish`].
    pub async fn publish_bytes(&self, channel: impl IntoKey + Send, message: impl Into<Bytes> + Send) -> Result<()> {
        self.send(&channel.into_key()?, message.into()).await
    }

    /// Subscribes to the channels under a prefix. The subscription is active when the call returns. Dropping the stream
    /// ends the subscription.
    ///
    /// # Errors
    /// `Unsupported` without the messages capability.
    ///
    /// # Examples
    /// ```
    /// use futures_util::StreamExt;
    /// use kv_core::{Kv, MessageEvent};
    /// # use kv_memory::MemoryStore;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> kv_core::Result<()> {
    /// let kv = Kv::new(MemoryStore::new());
    /// let mut inbox = kv.subscribe(["rooms"]).await?;
    /// kv.publish(["rooms", "lobby"], "hello").await?;
    /// if let Some(MessageEvent::Message(message)) = inbox.next().await.transpose()? {
    ///     assert_eq!(kv.decode::<String>(&message.payload)?, "hello");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn subscribe(&self, channels: impl IntoPrefix + Send) -> Result<MessageStream> {
        self.store.subscribe(&channels.into_prefix()?).await
    }

    async fn send(&self, channel: &Key, message: Bytes) -> Result<()> {
        self.store.publish(channel, message).await.map_err(|error| error.with_key(channel))
    }
}
