//! Watching stored keys change.

use super::handle::Kv;
use crate::BoxFuture;
use crate::error::Result;
use crate::key::{IntoKey, IntoPrefix};
use crate::watch::{WatchQuery, WatchStream};

impl Kv {
    /// Watches every key under a prefix: awaited, it gives a stream of [`WatchEvent`](crate::WatchEvent)s.
    ///
    /// The watch is live when the stream is there: what is written afterwards, by anyone and in whatever way, is told, or
    /// is part of a later report of the same key. A `Gap` says that reports may have been lost. [`Kv::decode`] reads the
    /// value of an entry.
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

    /// Watches one key; the rest is as [`Kv::watch`].
    ///
    /// # Errors
    /// As [`Kv::watch`]; a snapshot of one key needs no list capability.
    pub fn watch_key(&self, key: impl IntoKey) -> Watch<'_> {
        Watch { kv: self, query: key.into_key().map(WatchQuery::key) }
    }
}

/// A watch that begins when it is awaited.
#[derive(Debug)]
#[must_use = "nothing is watched until the watch is awaited"]
pub struct Watch<'kv> {
    kv: &'kv Kv,
    query: Result<WatchQuery>,
}

impl Watch<'_> {
    /// First tells every live entry as a `Set`, and then `SnapshotEnd`.
    pub fn with_snapshot(mut self) -> Self {
        self.query = self.query.map(WatchQuery::with_snapshot);
        self
    }

    /// Tells which keys changed without their entries, which are then not read.
    pub fn keys_only(mut self) -> Self {
        self.query = self.query.map(WatchQuery::with_keys_only);
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
