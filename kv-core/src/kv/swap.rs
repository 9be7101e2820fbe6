//! Replacing what was read, if it is still there.

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
    /// Writes `new` if the value is `expected`: awaited, it tells whether it was. `None` stands for an absent key, on
    /// either side.
    ///
    /// Values are compared as they decode, not byte for byte, and the write happens only if nobody wrote in between. Who
    /// was overtaken by a write of an equal value tries again, so `false` means that the value really was another.
    ///
    /// # Errors
    /// `Unsupported` without the conditions capability, `Corrupt` where what is there does not decode to the type,
    /// `Invalid` for a bad key or value, `Indeterminate` where the write may have happened.
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

    /// Puts `new` in the place of `current`, or of nothing, if that is still there.
    pub(super) async fn swap(
        &self,
        key: &Key,
        current: Option<&Entry>,
        new: Option<Bytes>,
        expiry: Expiry,
    ) -> Result<Swap> {
        let named = |error: crate::Error| error.with_key(key);
        let when = current.map_or(When::Absent, unchanged);
        match (current, new) {
            (_, Some(new)) => {
                let options = SetOptions::default().with_when(when).with_expiry(expiry);
                Ok(match self.store.set(key, new, &options).await.map_err(named)? {
                    SetOutcome::Stored { .. } => Swap::Done,
                    SetOutcome::Refused { current } => Swap::Changed(current),
                })
            }
            (Some(_), None) => {
                let options = DeleteOptions::default().with_when(when);
                Ok(match self.store.delete(key, &options).await.map_err(named)? {
                    DeleteOutcome::Deleted { .. } => Swap::Done,
                    DeleteOutcome::Missing => Swap::Changed(None),
                    DeleteOutcome::Refused { current } => Swap::Changed(current),
                })
            }
            (None, None) => Ok(Swap::Done),
        }
    }
}

/// What came of [`Kv::swap`].
pub(super) enum Swap {
    Done,
    /// Somebody wrote in between, and this is there now.
    Changed(Option<Entry>),
}

/// The condition that nobody has written since this entry was read; without versions, that its bytes are there.
pub(super) fn unchanged(entry: &Entry) -> When {
    match entry.version {
        Some(version) => When::Version(version),
        None => When::Value(entry.value.clone()),
    }
}

/// A compare-and-swap that happens when it is awaited.
#[derive(Debug)]
#[must_use = "nothing is written until the compare-and-swap is awaited"]
pub struct CompareAndSwap<'a, T> {
    kv: &'a Kv,
    /// The key and what to write there, or why it cannot be.
    plan: Result<(Key, Option<Bytes>)>,
    expected: Option<&'a T>,
    expiry: Expiry,
}

impl<T> CompareAndSwap<'_, T> {
    /// Sets how long the new entry lives.
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
