//! Reads that remove the value.

use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::handle::Kv;
use super::set::refused;
use super::swap::Swap;
use crate::capability::Capability;
use crate::entry::Entry;
use crate::error::{Error, Operation, Result};
use crate::expiry::Expiry;
use crate::key::{IntoKey, Key};
use crate::options::{DeleteOptions, DeleteOutcome};

impl Kv {
    /// Removes a value and returns it to exactly one caller. Returns `None` if the key is absent or another caller took
    /// the value.
    ///
    /// The value is decoded before it is removed, so that a value that does not decode stays. If the store has no
    /// conditions, the value is removed before it is decoded.
    ///
    /// # Errors
    /// `Unsupported` if the store has neither conditions nor previous values. `Corrupt` if the value does not decode to
    /// the type. `Indeterminate` if the value may have been removed.
    ///
    /// # Cancel safety
    /// If the future is dropped, the value is still there, was removed and is lost, or will be removed.
    ///
    /// # Examples
    /// ```
    /// # use kv_core::Kv;
    /// # use kv_memory::MemoryStore;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> kv_core::Result<()> {
    /// let kv = Kv::new(MemoryStore::new());
    /// kv.set(["tokens", "x1"], "ada").await?;
    /// assert_eq!(kv.take::<String>(["tokens", "x1"]).await?.as_deref(), Some("ada"));
    /// assert_eq!(kv.take::<String>(["tokens", "x1"]).await?, None);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn take<T: DeserializeOwned + Send>(&self, key: impl IntoKey + Send) -> Result<Option<T>> {
        let key = key.into_key()?;
        let read = |entry: Entry| self.read_as(&key, &entry.value);
        if self.can(Capability::Conditions) {
            self.read_and_remove(&key, read).await
        } else {
            self.remove_and_return(&key).await?.map(read).transpose()
        }
    }

    /// Removes a value and returns its bytes to exactly one caller. If the store returns previous values, this is one
    /// call to the store.
    ///
    /// # Errors
    /// The errors of [`Kv::take`], without `Corrupt`.
    ///
    /// # Cancel safety
    /// The same as for [`Kv::take`].
    pub async fn take_bytes(&self, key: impl IntoKey + Send) -> Result<Option<Bytes>> {
        let key = key.into_key()?;
        if self.can(Capability::Conditions) && !self.can(Capability::Previous) {
            self.read_and_remove(&key, |entry| Ok(entry.value)).await
        } else {
            Ok(self.remove_and_return(&key).await?.map(|entry| entry.value))
        }
    }

    async fn read_and_remove<T>(&self, key: &Key, read: impl Fn(Entry) -> Result<T>) -> Result<Option<T>> {
        let mut current = self.read(key).await?;
        while let Some(entry) = current {
            let value = read(entry.clone())?;
            match self.swap(key, Some(&entry), None, Expiry::Never).await? {
                Swap::Done => return Ok(Some(value)),
                Swap::Changed(now) => current = now,
            }
        }
        Ok(None)
    }

    /// Removes an entry and returns it. A store without previous values returns `Unsupported`.
    async fn remove_and_return(&self, key: &Key) -> Result<Option<Entry>> {
        let options = DeleteOptions::default().with_previous();
        let _writing = self.fence(key).await;
        match self.store.delete(key, &options).await.map_err(|error| error.with_key(key))? {
            DeleteOutcome::Deleted { previous: Some(entry) } => Ok(Some(entry)),
            DeleteOutcome::Deleted { previous: None } => {
                Err(Error::defect("the store removed an entry and did not return it").with_key(key))
            }
            DeleteOutcome::Missing => Ok(None),
            DeleteOutcome::Refused { .. } => Err(refused(Operation::Delete, key)),
        }
    }
}
