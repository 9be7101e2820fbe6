//! Read-modify-write updates.

use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::expiry::expiry_methods;
use super::handle::Kv;
use super::swap::Swap;
use crate::BoxFuture;
use crate::error::Result;
use crate::expiry::Expiry;
use crate::key::{IntoKey, Key};

impl Kv {
    /// Replaces a value by the result of a function. Awaiting the builder returns the new value. `None` stands for an
    /// absent key, in the argument and in the result of the function.
    ///
    /// The update reads the value, calls the function, and writes the result only if the entry has not changed since
    /// the read. If the entry has changed, the update starts again with the current value, so the function may run
    /// several times. By default the entry keeps its deadline, and a new entry gets the handle's default expiry.
    ///
    /// # Errors
    /// `Unsupported` without the conditions capability. `Corrupt` if the current bytes do not decode to the type.
    /// `Invalid` for an invalid key or value. `Indeterminate` if the write may have happened; it is not retried.
    ///
    /// # Cancel safety
    /// If the future is dropped, the write is not applied, was applied, or will be applied.
    ///
    /// # Examples
    /// ```
    /// # use kv_core::Kv;
    /// # use kv_memory::MemoryStore;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> kv_core::Result<()> {
    /// let kv = Kv::new(MemoryStore::new());
    /// let add = |names: Option<Vec<String>>| {
    ///     let mut names = names.unwrap_or_default();
    ///     names.push("ada".into());
    ///     Some(names)
    /// };
    /// assert_eq!(kv.update(["names"], add).await?, Some(vec!["ada".to_owned()]));
    /// # Ok(())
    /// # }
    /// ```
    pub fn update<T, F>(&self, key: impl IntoKey, change: F) -> Update<'_, T, F>
    where
        T: Serialize + DeserializeOwned,
        F: FnMut(Option<T>) -> Option<T>,
    {
        Update { kv: self, key: key.into_key(), change, expiry: None, value: PhantomData }
    }
}

/// A read-modify-write update, run when it is awaited.
#[must_use = "nothing is written until the update is awaited"]
pub struct Update<'kv, T, F> {
    kv: &'kv Kv,
    key: Result<Key>,
    change: F,
    /// The requested expiry; `None` keeps the deadline, or uses the default for a new entry.
    expiry: Option<Expiry>,
    value: PhantomData<fn(T) -> T>,
}

impl<T, F> Update<'_, T, F> {
    /// Sets the expiry of the entry, counted from this write.
    pub fn expiry(mut self, expiry: Expiry) -> Self {
        self.expiry = Some(expiry);
        self
    }

    expiry_methods!(keep);
}

impl<T, F> Update<'_, T, F>
where
    T: Serialize + DeserializeOwned,
    F: FnMut(Option<T>) -> Option<T>,
{
    async fn run(self) -> Result<Option<T>> {
        let Self { kv, key, mut change, expiry, value: _ } = self;
        let key = key?;
        let mut current = kv.read(&key).await?;
        loop {
            let old = current.as_ref().map(|entry| kv.read_as(&key, &entry.value)).transpose()?;
            let new = change(old);
            let bytes = new.as_ref().map(|new| kv.write_as(&key, new)).transpose()?;
            let default = if current.is_some() { Expiry::Keep } else { kv.default_expiry };
            match kv.swap(&key, current.as_ref(), bytes, expiry.unwrap_or(default)).await? {
                Swap::Done => return Ok(new),
                Swap::Changed(now) => current = now,
            }
        }
    }
}

impl<'kv, T, F> IntoFuture for Update<'kv, T, F>
where
    T: Serialize + DeserializeOwned + Send + 'kv,
    F: FnMut(Option<T>) -> Option<T> + Send + 'kv,
{
    type Output = Result<Option<T>>;
    type IntoFuture = BoxFuture<'kv, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl<T, F> std::fmt::Debug for Update<'_, T, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { kv: _, key, change: _, expiry, value: _ } = self;
        f.debug_struct("Update").field("key", key).field("expiry", expiry).finish_non_exhaustive()
    }
}
