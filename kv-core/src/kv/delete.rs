//! Removal of one key.

use std::marker::PhantomData;

use bytes::Bytes;
use serde::Serialize;

use super::handle::Kv;
use super::set::refused;
use crate::BoxFuture;
use crate::error::{Operation, Result};
use crate::key::{IntoKey, Key};
use crate::options::{DeleteOptions, DeleteOutcome, When};
use crate::version::Version;

impl Kv {
    /// Removes a key. Awaiting the builder returns true if a live entry was removed.
    ///
    /// # Errors
    /// `Invalid` for an invalid key; `Indeterminate` if the removal may have happened.
    ///
    /// # Cancel safety
    /// If the future is dropped, the removal is not applied, was applied, or will be applied.
    ///
    /// # Examples
    /// ```
    /// # use kv_core::Kv;
    /// # use kv_memory::MemoryStore;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> kv_core::Result<()> {
    /// let kv = Kv::new(MemoryStore::new());
    /// kv.set(["draft"], "hello").await?;
    /// assert!(!kv.delete(["draft"]).if_value("other").await?.is_deleted());
    /// assert!(kv.delete(["draft"]).await?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn delete(&self, key: impl IntoKey) -> Delete<'_> {
        let options = DeleteOptions::default();
        Delete { kv: self, removal: key.into_key().map(|key| (key, options)), outcome: PhantomData }
    }
}

/// A removal of one key, sent when it is awaited.
///
/// The result is true if a live entry was removed. With a condition, the builder becomes a [`ConditionalDelete`], which
/// returns the outcome of the condition.
#[derive(Debug)]
#[must_use = "nothing is removed until the delete is awaited"]
pub struct Delete<'kv, Outcome = bool> {
    kv: &'kv Kv,
    /// The key and the options, or the error that prevents the removal.
    removal: Result<(Key, DeleteOptions)>,
    outcome: PhantomData<fn() -> Outcome>,
}

/// A [`Delete`] that returns its outcome: deleted, missing, or refused by the condition.
pub type ConditionalDelete<'kv> = Delete<'kv, DeleteOutcome>;

impl<'kv> Delete<'kv> {
    /// Removes the entry only if it has this version.
    pub fn if_version(self, version: Version) -> ConditionalDelete<'kv> {
        self.when(|_, _| Ok(When::Version(version)))
    }

    /// Removes the entry only if its bytes equal the encoding of this value.
    pub fn if_value<T: Serialize + ?Sized>(self, value: &T) -> ConditionalDelete<'kv> {
        self.when(|kv, key| kv.write_as(key, value).map(When::Value))
    }

    /// Removes the entry only if it has exactly these bytes.
    pub fn if_bytes(self, bytes: impl Into<Bytes>) -> ConditionalDelete<'kv> {
        self.when(|_, _| Ok(When::Value(bytes.into())))
    }

    fn when(self, when: impl FnOnce(&Kv, &Key) -> Result<When>) -> ConditionalDelete<'kv> {
        let kv = self.kv;
        self.map(|key, options| Ok(options.with_when(when(kv, key)?)))
    }
}

impl<'kv, Outcome> Delete<'kv, Outcome> {
    /// Asks for the removed entry in the outcome.
    pub fn with_previous(self) -> ConditionalDelete<'kv> {
        self.map(|_, options| Ok(options.with_previous()))
    }

    fn map(self, change: impl FnOnce(&Key, DeleteOptions) -> Result<DeleteOptions>) -> ConditionalDelete<'kv> {
        let Self { kv, removal, outcome: _ } = self;
        let removal = removal.and_then(|(key, options)| {
            let options = change(&key, options)?;
            Ok((key, options))
        });
        Delete { kv, removal, outcome: PhantomData }
    }

    async fn send<T>(self, convert: impl FnOnce(&Key, DeleteOutcome) -> Result<T>) -> Result<T> {
        let (key, options) = self.removal?;
        let _writing = self.kv.fence(&key).await;
        let outcome = self.kv.store.delete(&key, &options).await.map_err(|error| error.with_key(&key))?;
        convert(&key, outcome)
    }
}

impl<'kv> IntoFuture for Delete<'kv> {
    type Output = Result<bool>;
    type IntoFuture = BoxFuture<'kv, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send(|key, outcome| deleted(key, &outcome)))
    }
}

impl<'kv> IntoFuture for ConditionalDelete<'kv> {
    type Output = Result<DeleteOutcome>;
    type IntoFuture = BoxFuture<'kv, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send(|_, outcome| Ok(outcome)))
    }
}

/// Returns true if a delete without a condition removed a live entry.
pub(super) fn deleted(key: &Key, outcome: &DeleteOutcome) -> Result<bool> {
    match outcome {
        DeleteOutcome::Deleted { .. } => Ok(true),
        DeleteOutcome::Missing => Ok(false),
        DeleteOutcome::Refused { .. } => Err(refused(Operation::Delete, key)),
    }
}
