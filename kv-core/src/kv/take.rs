//! Reading and removing in one.

use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::handle::Kv;
use super::swap::Swap;
use crate::capability::Capability;
use crate::entry::Entry;
use crate::error::{Error, Result};
use crate::expiry::Expiry;
use crate::key::{IntoKey, Key};
use crate::options::{DeleteOptions, DeleteOutcome};

impl Kv {
    /// Removes a value and gives it to exactly one caller; `None` where there is none, or another caller has it.
    ///
    /// It is decoded first and removed then, if it is still there, so that what does not decode stays. Only a store
    /// without conditions removes first.
    ///
    /// # Errors
    /// `Unsupported` without conditions and previous values, `Corrupt` where the value does not decode to the type,
    /// `Indeterminate` where the value may be removed.
    ///
    /// # Cancel safety
    /// After a dropped future the value is there, removed and lost, or still to be removed.
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

    /// Removes the bytes of a value and gives them to exactly one caller, in one call of the store where it returns
    /// previous values.
    ///
    /// # Errors
    /// As [`Kv::take`], without `Corrupt`.
    ///
    /// # Cancel safety
    /// As [`Kv::take`].
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

    /// A store that cannot do it says so.
    async fn remove_and_return(&self, key: &Key) -> Result<Option<Entry>> {
        let options = DeleteOptions::default().with_previous();
        match self.store.delete(key, &options).await.map_err(|error| error.with_key(key))? {
            DeleteOutcome::Deleted { previous: Some(entry) } => Ok(Some(entry)),
            DeleteOutcome::Deleted { previous: None } => {
                Err(Error::corrupt("the store removed an entry and did not return it").with_key(key))
            }
            DeleteOutcome::Missing | DeleteOutcome::Refused { .. } => Ok(None),
        }
    }
}
