//! Reading single keys and batches.

use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::batch::{Batch, Plan, named};
use super::handle::Kv;
use crate::entry::Entry;
use crate::error::Result;
use crate::key::{IntoKey, IntoPrefix, Key, KeyPrefix};

impl Kv {
    /// Reads a value; `None` is an absent key and nothing else.
    ///
    /// A stored `null` is `Some(None)` of an optional type, and an error of any other.
    ///
    /// # Errors
    /// `Invalid` for a bad key, `Corrupt` where the stored bytes do not decode to the type, and what the store gives.
    ///
    /// # Examples
    /// ```
    /// # use kv_core::Kv;
    /// # use kv_memory::MemoryStore;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> kv_core::Result<()> {
    /// let kv = Kv::new(MemoryStore::new());
    /// kv.set(["nickname"], &None::<String>).await?;
    /// assert_eq!(kv.get::<Option<String>>(["nickname"]).await?, Some(None));
    /// assert_eq!(kv.get::<Option<String>>(["address"]).await?, None);
    /// assert!(kv.get::<String>(["nickname"]).await.is_err());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn get<T: DeserializeOwned>(&self, key: impl IntoKey + Send) -> Result<Option<T>> {
        let key = key.into_key()?;
        let entry = self.read(&key).await?;
        entry.map(|entry| self.read_as(&key, &entry.value)).transpose()
    }

    /// Reads the bytes of a value, as they are stored.
    ///
    /// # Errors
    /// `Invalid` for a bad key, and what the store gives.
    pub async fn get_bytes(&self, key: impl IntoKey + Send) -> Result<Option<Bytes>> {
        // Not by way of `get_entry`: a hit in memory would pay a tenth for moving the entry once more, and as much for moving
        // the key out of its result.
        let key = key.into_key();
        let Ok(key) = &key else { return key.map(|_| None) };
        match self.store.get(key).await {
            Ok(entry) => Ok(entry.map(|entry| entry.value)),
            Err(error) => Err(error.with_key(key)),
        }
    }

    /// Reads the entry of a key: bytes, version and deadline of one and the same write.
    ///
    /// # Errors
    /// As [`Kv::get_bytes`].
    pub async fn get_entry(&self, key: impl IntoKey + Send) -> Result<Option<Entry>> {
        self.read(&key.into_key()?).await
    }

    /// Whether the key has a live entry.
    ///
    /// # Errors
    /// As [`Kv::get_bytes`].
    pub async fn contains(&self, key: impl IntoKey + Send) -> Result<bool> {
        let key = key.into_key()?;
        self.store.contains(&key).await.map_err(|error| error.with_key(&key))
    }

    /// Reads several values in one call of the store: one answer a key, in the order given. Not a snapshot.
    ///
    /// # Errors
    /// Each key for itself as [`Kv::get`]: the [`Batch`] gives all answers, or the first error.
    ///
    /// # Examples
    /// ```
    /// # use kv_core::Kv;
    /// # use kv_memory::MemoryStore;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> kv_core::Result<()> {
    /// let kv = Kv::new(MemoryStore::new());
    /// kv.set(["a"], &1).await?;
    /// assert_eq!(kv.get_many::<u8>([["a"], ["b"]]).await.all()?, [Some(1), None]);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn get_many<T: DeserializeOwned>(
        &self,
        keys: impl IntoIterator<Item = impl IntoKey>,
    ) -> Batch<Option<T>> {
        let (plan, good) = Plan::of(keys.into_iter().map(IntoKey::into_key));
        let answers = self.store.get_many(&good).await;
        plan.fill(
            named(answers, &good)
                .zip(&good)
                .map(|(answer, key)| answer?.map(|entry| self.read_as(key, &entry.value)).transpose()),
        )
    }

    /// Removes everything under a prefix and tells how many live entries went; `()` is everything in the namespace.
    ///
    /// It is not atomic: what was there at the call and not written since is gone.
    ///
    /// # Errors
    /// `Unsupported` without the list capability, and what the store gives.
    ///
    /// # Cancel safety
    /// A dropped future has removed some, all or nothing.
    pub async fn clear(&self, prefix: impl IntoPrefix + Send) -> Result<u64> {
        let prefix: KeyPrefix = prefix.into_prefix()?;
        self.store.clear(&prefix).await
    }

    pub(super) async fn read(&self, key: &Key) -> Result<Option<Entry>> {
        self.store.get(key).await.map_err(|error| error.with_key(key))
    }
}
