//! The store behind the handle, as a whole.

use super::handle::Kv;
use crate::error::Result;

impl Kv {
    /// Asks whether the backend answers.
    ///
    /// # Errors
    /// `Unavailable` where it does not.
    pub async fn ping(&self) -> Result<()> {
        self.store.ping().await
    }

    /// Waits until every write acknowledged before is as safe as the backend can make it.
    ///
    /// # Errors
    /// What the store gives; the writes stay acknowledged.
    pub async fn flush(&self) -> Result<()> {
        self.store.flush().await
    }

    /// Flushes and closes the store for every handle on it, whatever its namespace; again is fine.
    ///
    /// # Errors
    /// What the store gives. Calls afterwards are `Closed`, and streams end.
    pub async fn close(&self) -> Result<()> {
        self.store.close().await
    }
}
