//! Changes of deadlines.

use std::time::{Duration, SystemTime};

use super::handle::Kv;
use crate::error::Result;
use crate::expiry::NewExpiry;
use crate::key::IntoKey;

impl Kv {
    /// Sets the deadline of a live entry to `ttl` from now. Returns false if there is no live entry.
    ///
    /// Value and version stay. If `ttl` is zero, the entry is absent at once.
    ///
    /// # Errors
    /// `Unsupported` without the touch capability, and errors of the store.
    ///
    /// # Cancel safety
    /// If the future is dropped, the deadline is unchanged, was changed, or will be changed.
    pub async fn expire_after(&self, key: impl IntoKey + Send, ttl: Duration) -> Result<bool> {
        self.touch(key, NewExpiry::After(ttl)).await
    }

    /// Sets the deadline of a live entry to this time. Otherwise it works as [`Kv::expire_after`].
    ///
    /// # Errors
    /// The errors of [`Kv::expire_after`].
    ///
    /// # Cancel safety
    /// The same as for [`Kv::expire_after`].
    pub async fn expire_at(&self, key: impl IntoKey + Send, moment: SystemTime) -> Result<bool> {
        self.touch(key, NewExpiry::At(moment)).await
    }

    /// Removes the deadline of a live entry, so that it never expires. Returns false if there is no live entry.
    ///
    /// # Errors
    /// The errors of [`Kv::expire_after`].
    ///
    /// # Cancel safety
    /// The same as for [`Kv::expire_after`].
    pub async fn persist(&self, key: impl IntoKey + Send) -> Result<bool> {
        self.touch(key, NewExpiry::Never).await
    }

    async fn touch(&self, key: impl IntoKey + Send, expiry: NewExpiry) -> Result<bool> {
        let key = key.into_key()?;
        self.store.touch(&key, expiry).await.map_err(|error| error.with_key(&key))
    }
}
