//! Watching keys.

use super::handle::Kv;
use crate::BoxFuture;
use crate::error::Result;
use crate::key::{IntoKey, IntoPrefix};
use crate::watch::{Report, WatchQuery, WatchStream};

impl Kv {
    /// Watches all keys under a prefix. Awaiting the builder returns a stream of [`WatchEvent`](crate::WatchEvent)s.
    ///
    /// The watch is active when the stream is returned. Every later write by any caller and operation is reported, or
    /// included in a later report of the same key. A `Gap` means that reports may have been lost. [`Kv::decode`] reads
    /// the value of an entry.
    ///
    /// # Errors
    /// `Unsupported` without the watch capability, or for a snapshot without the list capability.
    ///
    /// # Examples
    /// ```
    /// use futures_util::StreamExt;
    /// use kv_core::{Kv, WatchEvent};
    /// # use kv_memory::MemoryStore;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> kv_core::Result<()> {
    /// let kv = Kv::new(MemoryStore::new());
    /// let mut changes = kv.watch(["users"]).await?;
    /// kv.set(["users", "1"], "ada").await?;
    /// if let Some(WatchEvent::Set { key, entry: Some(entry) }) = changes.next().await.transpose()? {
    ///     assert_eq!((key.as_str(), kv.decode::<String>(&entry.value)?.as_str()), ("users#1", "ada"));
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn watch(&self, prefix: impl IntoPrefix) -> Watch<'_> {
        Watch { kv: self, query: prefix.into_prefix().map(WatchQuery::prefix) }
    }

    /// Watches one key. Otherwise it works as [`Kv::watch`].
    ///
    /// # Errors
    /// The errors of [`Kv::watch`]. A snapshot of one key does not need the list capability.
    pub fn watch_key(&self, key: impl IntoKey) -> Watch<'_> {
        Watch { kv: self, query: key.into_key().map(WatchQuery::key) }
    }
}

/// A watch that starts when it is awaited.
#[derive(Debug)]
#[must_use = "nothing is watched until the watch is awaited"]
pub struct Watch<'kv> {
    kv: &'kv Kv,
    query: Result<WatchQuery>,
}

impl Watch<'_> {
    /// Sends a `Set` for every live entry first, and then `SnapshotEnd`.
    pub fn with_snapshot(mut self) -> Self {
        self.query = self.query.map(WatchQuery::with_snapshot);
        self
    }

    /// Sends keys without entries, so that the store reads no values.
    pub fn keys_only(mut self) -> Self {
        self.query = self.query.map(WatchQuery::with_keys_only);
        self
    }

    /// Sends `Changed` events instead of `Set` and `Removed`, so that the store reads nothing.
    pub fn changes_only(mut self) -> Self {
        self.query = self.query.map(|query| query.with_report(Report::Changes));
        self
    }
}

impl<'kv> IntoFuture for Watch<'kv> {
    type Output = Result<WatchStream>;
    type IntoFuture = BoxFuture<'kv, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { kv, query } = self;
        Box::pin(async move { kv.store.watch(&query?).await })
    }
}
