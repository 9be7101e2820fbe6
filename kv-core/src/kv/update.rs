//! Computing a new value from the old one.

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
    /// Replaces a value by what the function makes of it: awaited, it gives the new value. `None` stands for an absent key,
    /// on either side.
    ///
    /// It reads, computes, and writes only if nobody wrote in between; otherwise it begins again with what is there then,
    /// so the function may run several times. The entry keeps its deadline unless another is said; one that is created
    /// lives as the handle's default says.
    ///
    /// # Errors
    /// `Unsupported` without the conditions capability, `Corrupt` where what is there does not decode to the type,
    /// `Invalid` for a bad key or value. An `Indeterminate` write may have happened and is not tried again.
    ///
    /// # Cancel safety
    /// After a dropped future the write is not applied, applied, or still to be applied.
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

/// A read, computation and write that happen when it is awaited.
#[must_use = "nothing is written until the update is awaited"]
pub struct Update<'kv, T, F> {
    kv: &'kv Kv,
    key: Result<Key>,
    change: F,
    /// What was said; nothing keeps the deadline.
    expiry: Option<Expiry>,
    value: PhantomData<fn(T) -> T>,
}

impl<T, F> Update<'_, T, F> {
    /// Sets how long the entry lives from this write on.
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
            let unsaid = if current.is_some() { Expiry::Keep } else { kv.default_expiry };
            match kv.swap(&key, current.as_ref(), bytes, expiry.unwrap_or(unsaid)).await? {
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
