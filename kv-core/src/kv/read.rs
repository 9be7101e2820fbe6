//! Reads of single keys and batches, and clearing.

use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::batch::{Batch, Slots};
use super::handle::Kv;
use crate::entry::Entry;
use crate::error::Result;
use crate::key::{IntoKey, IntoPrefix, Key, KeyPrefix};

impl Kv {
    /// Reads a value. `None` means only that the key is absent.
    ///
    /// A stored `null` reads as `Some(None)` if the type is optional, and is an error for any other type.
    ///
    /// # Errors
    /// `Invalid` for an invalid key, `Corrupt` if the stored bytes do not decode to the type, and errors of the store.
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

    /// Reads the stored bytes of a value.
    ///
    /// # Errors
    /// `Invalid` for an invalid key, and errors of the store.
    pub async fn get_bytes(&self, key: impl IntoKey + Send) -> Result<Option<Bytes>> {
        // `get_entry` is not reused here. In a read from kv-memory, moving the entry once more costs a tenth of the
        // time, and moving the key out of its result costs another tenth.
        let key = key.into_key();
        let Ok(key) = &key else { return key.map(|_| None) };
        match self.store.get(key).await {
            Ok(entry) => Ok(entry.map(|entry| entry.value)),
            Err(error) => Err(error.with_key(key)),
        }
    }

    /// Reads the entry of a key: value bytes, version and deadline of one write.
    ///
    /// # Errors
    /// The errors of [`Kv::get_bytes`].
    pub async fn get_entry(&self, key: impl IntoKey + Send) -> Result<Option<Entry>> {
        self.read(&key.into_key()?).await
    }

    /// Returns true if the key has a live entry.
    ///
    /// # Errors
    /// The errors of [`Kv::get_bytes`].
    pub async fn contains(&self, key: impl IntoKey + Send) -> Result<bool> {
        let key = key.into_key()?;
        self.store.contains(&key).await.map_err(|error| error.with_key(&key))
    }

    /// Reads several values in one call to the store. There is one result for each key, in the order given. The results
    /// are not a snapshot.
    ///
    /// # Errors
    /// Each key can fail separately as in [`Kv::get`]. The [`Batch`] returns all values or the first error.
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
        let (slots, keys) = Slots::split(keys.into_iter().map(IntoKey::into_key));
        let results = self.store.get_many(&keys).await;
        slots.fill(&keys, results, |key, entry: Option<Entry>| {
            entry.map(|entry| self.read_as(key, &entry.value)).transpose()
        })
    }

    /// Removes everything under a prefix and returns the number of live entries removed. `()` clears the whole
    /// namespace.
    ///
    /// The call is not atomic. Entries that existed at the call and were not written since are removed.
    ///
    /// # Errors
    /// `Unsupported` without the list capability, and errors of the store.
    ///
    /// # Cancel safety
    /// If the future is dropped, none, some or all of the entries are removed.
    pub async fn clear(&self, prefix: impl IntoPrefix + Send) -> Result<u64> {
        let prefix: KeyPrefix = prefix.into_prefix()?;
        let _writing = self.fence_prefix(&prefix).await;
        self.store.clear(&prefix).await
    }

    pub(super) async fn read(&self, key: &Key) -> Result<Option<Entry>> {
        self.store.get(key).await.map_err(|error| error.with_key(key))
    }
}
