//! What traffic is played on.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

/// A store of somebody's. What it cannot do is done as its users would have to: a compare-and-swap is a read and a write there.
#[async_trait]
pub trait Peer: Debug + Send + Sync + 'static {
    /// The value of a key.
    async fn get(&self, key: &[String]) -> Option<Bytes>;

    /// Writes a value; a store without deadlines keeps it for ever.
    async fn set(&self, key: &[String], value: Bytes, ttl: Option<Duration>);

    /// Removes a key.
    async fn delete(&self, key: &[String]);

    /// Writes or removes a value if the key has the expected one; whether it had.
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

    /// How many entries lie under the prefix; `None` where it cannot list.
    async fn list(&self, prefix: &[String]) -> Option<usize>;
}
