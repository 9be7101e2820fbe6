//! Operations on the store as a whole.

use super::handle::Kv;
use crate::error::Result;

impl Kv {
    /// Checks that the backend answers.
    ///
    /// # Errors
    /// `Unavailable` if the backend does not answer.
    pub async fn ping(&self) -> Result<()> {
        self.store.ping().await
    }

    /// Waits until all acknowledged writes are as durable as the backend can make them.
    ///
    /// # Errors
    /// The error of the store. The writes stay acknowledged.
    pub async fn flush(&self) -> Result<()> {
        self.store.flush().await
    }

    /// Flushes and closes the store for all its handles, in every namespace. Closing again succeeds. Later calls fail
    /// with `Closed`, and streams end.
    ///
    /// # Errors
    /// The error of the store.
    pub async fn close(&self) -> Result<()> {
        self.store.close().await
    }
}
