//! The interface of a key-value layer.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

/// A key-value layer. The default methods emulate missing operations as the users of the layer must do: a
/// compare-and-swap is a read and then a write.
#[async_trait]
pub trait Peer: Debug + Send + Sync + 'static {
    /// Returns the value of a key.
    async fn get(&self, key: &[String]) -> Option<Bytes>;

    /// Writes a value. A layer without deadlines ignores `ttl`.
    async fn set(&self, key: &[String], value: Bytes, ttl: Option<Duration>);

    /// Removes a key.
    async fn delete(&self, key: &[String]);

    /// Writes `value`, or removes the key if `value` is `None`, but only if the key has the value `expected`. Returns
    /// true if the key had that value.
    async fn cas(
        &self,
        key: &[String],
        expected: Option<&Bytes>,
        value: Option<&Bytes>,
        ttl: Option<Duration>,
    ) -> bool {
        let found = self.get(key).await;
        if found.as_ref() != expected {
            return false;
        }
        match value {
            Some(value) => self.set(key, value.clone(), ttl).await,
            None => self.delete(key).await,
        }
        true
    }

    /// Returns the number of entries under the prefix; `None` if the layer cannot list.
    async fn list(&self, prefix: &[String]) -> Option<usize>;
}
