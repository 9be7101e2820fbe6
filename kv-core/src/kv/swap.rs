//! Compare-and-swap.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::expiry::expiry_methods;
use super::handle::Kv;
use crate::BoxFuture;
use crate::entry::Entry;
use crate::error::Result;
use crate::expiry::Expiry;
use crate::key::{IntoKey, Key};
use crate::options::{DeleteOptions, DeleteOutcome, SetOptions, SetOutcome, When};

impl Kv {
    /// Writes `new` if the current value equals `expected`. Awaiting the builder returns true if the two values were
    /// equal. `None` stands for an absent key in both arguments.
    ///
    /// The decoded values are compared, not the bytes. The write applies only if the entry did not change after the
    /// comparison. If the entry changed to an equal value, the swap tries again. Therefore `false` always means that
    /// the value differed from `expected`.
    ///
    /// # Errors
    /// `Unsupported` without the conditions capability. `Corrupt` if the current bytes do not decode to the type.
    /// `Invalid` for an invalid key or value. `Indeterminate` if the write may have happened.
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
    /// assert!(kv.compare_and_swap(["leader"], None, Some(&1)).await?);
    /// assert!(!kv.compare_and_swap(["leader"], Some(&2), Some(&3)).await?);
    /// assert!(kv.compare_and_swap(["leader"], Some(&1), None).await?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn compare_and_swap<'a, T>(
        &'a self,
        key: impl IntoKey,
        expected: Option<&'a T>,
        new: Option<&T>,
    ) -> CompareAndSwap<'a, T>
    where
        T: Serialize + DeserializeOwned + PartialEq,
    {
        let plan = key.into_key().and_then(|key| {
            let new = new.map(|new| self.write_as(&key, new)).transpose()?;
            Ok((key, new))
        });
        CompareAndSwap { kv: self, plan, expected, expiry: self.default_expiry }
    }

    /// Replaces the entry `current` by `new` if the entry has not changed since it was read. `None` stands for an
    /// absent entry in both arguments.
    pub(super) async fn swap(
        &self,
        key: &Key,
        current: Option<&Entry>,
        new: Option<Bytes>,
        expiry: Expiry,
    ) -> Result<Swap> {
        let context = |error: crate::Error| error.with_key(key);
        let when = current.map_or(When::Absent, unchanged);
        let _writing = self.fence(key).await;
        match (current, new) {
            (_, Some(new)) => {
                let options = SetOptions::default().with_when(when).with_expiry(expiry);
                Ok(match self.store.set(key, new, &options).await.map_err(context)? {
                    SetOutcome::Stored { .. } => Swap::Done,
                    SetOutcome::Refused { current } => Swap::Changed(current),
                })
            }
            (Some(_), None) => {
                let options = DeleteOptions::default().with_when(when);
                Ok(match self.store.delete(key, &options).await.map_err(context)? {
                    DeleteOutcome::Deleted { .. } => Swap::Done,
                    DeleteOutcome::Missing => Swap::Changed(None),
                    DeleteOutcome::Refused { current } => Swap::Changed(current),
                })
            }
            (None, None) => Ok(Swap::Done),
        }
    }
}

/// The outcome of [`Kv::swap`].
pub(super) enum Swap {
    Done,
    /// The entry was changed since it was read. The field is the current entry.
    Changed(Option<Entry>),
}

/// The condition that the entry has not changed: the version of the entry or, without versions, the bytes of the entry.
pub(super) fn unchanged(entry: &Entry) -> When {
    match entry.version {
        Some(version) => When::Version(version),
        None => When::Value(entry.value.clone()),
    }
}

/// A compare-and-swap, run when it is awaited.
#[derive(Debug)]
#[must_use = "nothing is written until the compare-and-swap is awaited"]
pub struct CompareAndSwap<'a, T> {
    kv: &'a Kv,
    /// The key and the new bytes, or the error that prevents the swap.
    plan: Result<(Key, Option<Bytes>)>,
    expected: Option<&'a T>,
    expiry: Expiry,
}

impl<T> CompareAndSwap<'_, T> {
    /// Sets the expiry of the new entry.
    pub fn expiry(mut self, expiry: Expiry) -> Self {
        self.expiry = expiry;
        self
    }

    expiry_methods!(keep);
}

impl<T: DeserializeOwned + PartialEq + Sync> CompareAndSwap<'_, T> {
    async fn run(self) -> Result<bool> {
        let Self { kv, plan, expected, expiry } = self;
        let (key, new) = plan?;
        let mut current = kv.read(&key).await?;
        loop {
            if !is_expected(kv, &key, current.as_ref(), expected)? {
                return Ok(false);
            }
            match kv.swap(&key, current.as_ref(), new.clone(), expiry).await? {
                Swap::Done => return Ok(true),
                Swap::Changed(now) => current = now,
            }
        }
    }
}

fn is_expected<T>(kv: &Kv, key: &Key, current: Option<&Entry>, expected: Option<&T>) -> Result<bool>
where
    T: DeserializeOwned + PartialEq,
{
    match (current, expected) {
        (Some(entry), Some(expected)) => Ok(kv.read_as::<T>(key, &entry.value)? == *expected),
        (current, expected) => Ok(current.is_none() && expected.is_none()),
    }
}

impl<'a, T: DeserializeOwned + PartialEq + Sync> IntoFuture for CompareAndSwap<'a, T> {
    type Output = Result<bool>;
    type IntoFuture = BoxFuture<'a, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}
