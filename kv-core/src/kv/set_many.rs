//! Writes and removals of several keys.

use bytes::Bytes;
use serde::Serialize;

use super::batch::{Batch, Slots};
use super::delete::deleted;
use super::expiry::expiry_methods;
use super::handle::Kv;
use super::set::stored;
use crate::BoxFuture;
use crate::error::Result;
use crate::expiry::Expiry;
use crate::key::{IntoKey, Key};
use crate::options::{SetItem, SetOptions};
use crate::version::Version;

impl Kv {
    /// Writes several values in one call to the store. Writes of the same key apply in the order given. The call is not
    /// atomic.
    ///
    /// # Errors
    /// Each key can fail separately as in [`Kv::set`]. The [`Batch`] returns all versions or the first error.
    ///
    /// # Cancel safety
    /// If the future is dropped, each write separately is not applied, was applied, or will be applied.
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use kv_core::Kv;
    /// # use kv_memory::MemoryStore;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> kv_core::Result<()> {
    /// let kv = Kv::new(MemoryStore::new());
    /// let scores = [("ada", 3), ("grace", 5)];
    /// let writes = scores.map(|(name, score)| (["scores", name], score));
    /// kv.set_many(writes).ttl(Duration::from_secs(60)).await.all()?;
    /// assert_eq!(kv.get::<u32>(["scores", "grace"]).await?, Some(5));
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_many<K: IntoKey, T: Serialize>(&self, items: impl IntoIterator<Item = (K, T)>) -> SetMany<'_> {
        let write = |(key, value): (K, T)| {
            let key = key.into_key()?;
            let value = self.write_as(&key, &value)?;
            Ok((key, value))
        };
        SetMany { kv: self, writes: items.into_iter().map(write).collect(), expiry: self.default_expiry }
    }

    /// Removes several keys in one call to the store. Each result is true if a live entry was removed. The call is not
    /// atomic.
    ///
    /// # Errors
    /// Each key can fail separately as in [`Kv::delete`].
    ///
    /// # Cancel safety
    /// The same as for [`Kv::set_many`].
    pub async fn delete_many(&self, keys: impl IntoIterator<Item = impl IntoKey>) -> Batch<bool> {
        let (slots, keys) = Slots::split(keys.into_iter().map(IntoKey::into_key));
        let _writing = self.fence_all(&keys).await;
        let outcomes = self.store.delete_many(&keys).await;
        slots.fill(&keys, outcomes, |key, outcome| deleted(key, &outcome))
    }
}

/// A write of several keys, sent when it is awaited.
#[derive(Debug)]
#[must_use = "nothing is written until the sets are awaited"]
pub struct SetMany<'kv> {
    kv: &'kv Kv,
    writes: Vec<Result<(Key, Bytes)>>,
    expiry: Expiry,
}

impl SetMany<'_> {
    /// Sets the expiry of each entry.
    pub fn expiry(mut self, expiry: Expiry) -> Self {
        self.expiry = expiry;
        self
    }

    expiry_methods!(keep);

    async fn send(self) -> Batch<Option<Version>> {
        let Self { kv, writes, expiry } = self;
        let (slots, writes) = Slots::split(writes);
        let options = SetOptions::default().with_expiry(expiry);
        let item = |(key, value): (Key, Bytes)| SetItem::new(key, value).with_options(options.clone());
        let items: Vec<SetItem> = writes.into_iter().map(item).collect();
        let _writing = kv.fence_all(items.iter().map(|item| &item.key)).await;
        let outcomes = kv.store.set_many(&items).await;
        slots.fill(items.iter().map(|item| &item.key), outcomes, |key, outcome| stored(key, &outcome))
    }
}

impl<'kv> IntoFuture for SetMany<'kv> {
    type Output = Batch<Option<Version>>;
    type IntoFuture = BoxFuture<'kv, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}
