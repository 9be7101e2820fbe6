//! Writing and removing several keys.

use bytes::Bytes;
use serde::Serialize;

use super::batch::{Batch, Plan, named};
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
    /// Writes several values in one call of the store, in the order given where a key stands twice. Not atomic.
    ///
    /// # Errors
    /// Each key for itself as [`Kv::set`]: the [`Batch`] gives all versions, or the first error.
    ///
    /// # Cancel safety
    /// After a dropped future each write for itself is not applied, applied, or still to be applied.
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

    /// Removes several keys in one call of the store; each result tells whether a live entry was removed. Not atomic.
    ///
    /// # Errors
    /// Each key for itself as [`Kv::delete`].
    ///
    /// # Cancel safety
    /// As [`Kv::set_many`].
    pub async fn delete_many(&self, keys: impl IntoIterator<Item = impl IntoKey>) -> Batch<bool> {
        let (plan, good) = Plan::of(keys.into_iter().map(IntoKey::into_key));
        let outcomes = self.store.delete_many(&good).await;
        plan.fill(named(outcomes, &good).map(|outcome| Ok(outcome?.is_deleted())))
    }
}

/// Writes of several keys that happen when they are awaited.
#[derive(Debug)]
#[must_use = "nothing is written until the sets are awaited"]
pub struct SetMany<'kv> {
    kv: &'kv Kv,
    writes: Vec<Result<(Key, Bytes)>>,
    expiry: Expiry,
}

impl SetMany<'_> {
    /// Sets how long each entry lives.
    pub fn expiry(mut self, expiry: Expiry) -> Self {
        self.expiry = expiry;
        self
    }

    expiry_methods!(keep);

    async fn send(self) -> Batch<Option<Version>> {
        let Self { kv, writes, expiry } = self;
        let (plan, good) = Plan::of(writes);
        let options = SetOptions::default().with_expiry(expiry);
        let item = |(key, value): (Key, Bytes)| SetItem::new(key, value).with_options(options.clone());
        let items: Vec<SetItem> = good.into_iter().map(item).collect();
        let outcomes = kv.store.set_many(&items).await;
        plan.fill(named(outcomes, items.iter().map(|item| &item.key)).map(|outcome| stored(&outcome?)))
    }
}

impl<'kv> IntoFuture for SetMany<'kv> {
    type Output = Batch<Option<Version>>;
    type IntoFuture = BoxFuture<'kv, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}
