//! Writes of one key.

use std::marker::PhantomData;

use bytes::Bytes;
use serde::Serialize;

use super::expiry::expiry_methods;
use super::handle::Kv;
use crate::BoxFuture;
use crate::error::{Error, Operation, Result};
use crate::expiry::Expiry;
use crate::key::{IntoKey, Key};
use crate::options::{SetOptions, SetOutcome, When};
use crate::version::Version;

impl Kv {
    /// Writes a value. Awaiting the builder returns the [`Version`] of the write, if the store has versions.
    ///
    /// The write replaces value and deadline together. If it sets no expiry, the handle's default applies.
    ///
    /// # Errors
    /// `Invalid` for an invalid key, or if the value cannot be encoded or is too large. In these cases, nothing was
    /// sent and the old value stays. `Indeterminate` if the write may have happened.
    ///
    /// # Cancel safety
    /// If the future is dropped, the write is not applied, was applied, or will be applied.
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use kv_core::Kv;
    /// # use kv_memory::MemoryStore;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> kv_core::Result<()> {
    /// let kv = Kv::new(MemoryStore::new());
    /// kv.set(["users", "1"], "ada").ttl(Duration::from_secs(300)).await?;
    /// kv.set(["codes", "1"], &1815).ttl_text("5m")?.await?;
    /// if kv.set(["users", "1"], "grace").if_absent().await?.is_stored() {
    ///     unreachable!("it is ada's");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn set<T: Serialize + ?Sized>(&self, key: impl IntoKey, value: &T) -> Set<'_> {
        let write = key.into_key().and_then(|key| {
            let value = self.write_as(&key, value)?;
            Ok(Write { key, value, when: When::Always })
        });
        Set::new(self, write)
    }

    /// Writes bytes without encoding them. Otherwise it works as [`Kv::set`].
    ///
    /// # Errors
    /// The errors of [`Kv::set`].
    ///
    /// # Cancel safety
    /// The same as for [`Kv::set`].
    pub fn set_bytes(&self, key: impl IntoKey, bytes: impl Into<Bytes>) -> Set<'_> {
        Set::new(self, key.into_key().map(|key| Write { key, value: bytes.into(), when: When::Always }))
    }
}

/// A write of one key, sent when it is awaited.
///
/// The result is the version of the write. With a condition, the builder becomes a [`ConditionalSet`], which returns
/// the outcome of the condition.
#[derive(Debug)]
#[must_use = "nothing is written until the set is awaited"]
pub struct Set<'kv, Outcome = Option<Version>> {
    kv: &'kv Kv,
    /// The write, or the error that prevents it.
    write: Result<Write>,
    expiry: Expiry,
    return_previous: bool,
    outcome: PhantomData<fn() -> Outcome>,
}

/// A [`Set`] that returns its outcome: stored, or refused by the condition.
pub type ConditionalSet<'kv> = Set<'kv, SetOutcome>;

#[derive(Debug)]
struct Write {
    key: Key,
    value: Bytes,
    when: When,
}

impl<'kv> Set<'kv> {
    fn new(kv: &'kv Kv, write: Result<Write>) -> Self {
        Self { kv, write, expiry: kv.default_expiry, return_previous: false, outcome: PhantomData }
    }

    /// Writes only if the key has no live entry.
    pub fn if_absent(self) -> ConditionalSet<'kv> {
        self.when(|_, _| Ok(When::Absent))
    }

    /// Writes only if the key has a live entry.
    pub fn if_present(self) -> ConditionalSet<'kv> {
        self.when(|_, _| Ok(When::Present))
    }

    /// Writes only if the live entry has this version.
    pub fn if_version(self, version: Version) -> ConditionalSet<'kv> {
        self.when(|_, _| Ok(When::Version(version)))
    }

    /// Writes only if the bytes of the live entry equal the encoding of this value.
    ///
    /// Equal values can have different encodings, such as maps with their keys in another order.
    /// [`Kv::compare_and_swap`] compares decoded values instead.
    pub fn if_value<T: Serialize + ?Sized>(self, value: &T) -> ConditionalSet<'kv> {
        self.when(|kv, key| kv.write_as(key, value).map(When::Value))
    }

    /// Writes only if the live entry has exactly these bytes.
    pub fn if_bytes(self, bytes: impl Into<Bytes>) -> ConditionalSet<'kv> {
        self.when(|_, _| Ok(When::Value(bytes.into())))
    }

    fn when(self, when: impl FnOnce(&Kv, &Key) -> Result<When>) -> ConditionalSet<'kv> {
        let mut set = self.conditional();
        set.write = set.write.and_then(|write| Ok(Write { when: when(set.kv, &write.key)?, ..write }));
        set
    }
}

impl<'kv, Outcome> Set<'kv, Outcome> {
    /// Sets the expiry of the entry.
    pub fn expiry(mut self, expiry: Expiry) -> Self {
        self.expiry = expiry;
        self
    }

    expiry_methods!(keep);

    /// Asks for the replaced entry in the outcome.
    pub fn with_previous(self) -> ConditionalSet<'kv> {
        let mut set = self.conditional();
        set.return_previous = true;
        set
    }

    fn conditional(self) -> ConditionalSet<'kv> {
        let Self { kv, write, expiry, return_previous, outcome: _ } = self;
        Set { kv, write, expiry, return_previous, outcome: PhantomData }
    }

    async fn send<T>(self, convert: impl FnOnce(&Key, SetOutcome) -> Result<T>) -> Result<T> {
        let Self { kv, write, expiry, return_previous, outcome: _ } = self;
        let Write { key, value, when } = write?;
        let options = SetOptions { expiry, when, return_previous };
        let _writing = kv.fence(&key).await;
        let outcome = kv.store.set(&key, value, &options).await.map_err(|error| error.with_key(&key))?;
        convert(&key, outcome)
    }
}

impl<'kv> IntoFuture for Set<'kv> {
    type Output = Result<Option<Version>>;
    type IntoFuture = BoxFuture<'kv, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send(|key, outcome| stored(key, &outcome)))
    }
}

impl<'kv> IntoFuture for ConditionalSet<'kv> {
    type Output = Result<SetOutcome>;
    type IntoFuture = BoxFuture<'kv, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send(|_, outcome| Ok(outcome)))
    }
}

/// Returns the version of a write without a condition.
pub(super) fn stored(key: &Key, outcome: &SetOutcome) -> Result<Option<Version>> {
    match outcome {
        SetOutcome::Stored { version, previous: _ } => Ok(*version),
        SetOutcome::Refused { .. } => Err(refused(Operation::Set, key)),
    }
}

/// Returns the error for a store that refuses a write without a condition. A store that keeps the contract never does
/// this.
pub(super) fn refused(operation: Operation, key: &Key) -> Error {
    let error = Error::defect("the store refused a write without a condition");
    error.with_operation(operation).with_key(key)
}
