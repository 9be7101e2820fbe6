//! Moving the deadline of an entry that is there.

use std::time::{Duration, SystemTime};

use super::handle::Kv;
use crate::error::Result;
use crate::expiry::NewExpiry;
use crate::key::IntoKey;

impl Kv {
    /// Lets a live entry expire when `ttl` has passed from now on, and tells whether there was one.
    ///
    /// Value and version stay. Zero: the entry is absent at once.
    ///
    /// # Errors
    /// `Unsupported` without the touch capability, and what the store gives.
    ///
    /// # Cancel safety
    /// After a dropped future the deadline is the old one, the new one, or still to be moved.
    pub async fn expire_after(&self, key: impl IntoKey + Send, ttl: Duration) -> Result<bool> {
        self.touch(key, NewExpiry::After(ttl)).await
    }

    /// Lets a live entry expire at this moment, and tells whether there was one; the rest is as [`Kv::expire_after`].
    ///
    /// # Errors
    /// As [`Kv::expire_after`].
    ///
    /// # Cancel safety
    /// As [`Kv::expire_after`].
    pub async fn expire_at(&self, key: impl IntoKey + Send, moment: SystemTime) -> Result<bool> {
        self.touch(key, NewExpiry::At(moment)).await
    }

    /// Lets a live entry live until it is deleted or overwritten, and tells whether there was one.
    ///
    /// # Errors
    /// As [`Kv::expire_after`].
    ///
    /// # Cancel safety
    /// As [`Kv::expire_after`].
    pub async fn persist(&self, key: impl IntoKey + Send) -> Result<bool> {
        self.touch(key, NewExpiry::Never).await
    }

    async fn touch(&self, key: impl IntoKey + Send, expiry: NewExpiry) -> Result<bool> {
        let key = key.into_key()?;
        self.store.touch(&key, expiry).await.map_err(|error| error.with_key(&key))
    }
}
