//! Writing one key.

use std::marker::PhantomData;

use bytes::Bytes;
use serde::Serialize;

use super::expiry::expiry_methods;
use super::handle::Kv;
use crate::BoxFuture;
use crate::error::{Error, Result};
use crate::expiry::Expiry;
use crate::key::{IntoKey, Key};
use crate::options::{SetOptions, SetOutcome, When};
use crate::version::Version;

impl Kv {
    /// Writes a value: awaited, it gives the [`Version`] of the write, where the store has versions.
    ///
    /// Value and deadline are replaced together; without a word about it the entry lives as the handle's default says.
    ///
    /// # Errors
    /// `Invalid` for a bad key, or a value that cannot be encoded or is too large: nothing was sent and the old value
    /// stays. `Indeterminate` where the write may have happened.
    ///
    /// # Cancel safety
    /// After a dropped future the write is not applied, applied, or still to be applied.
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

    /// Writes bytes as they are, without the codec; the rest is as [`Kv::set`].
    ///
    /// # Errors
    /// As [`Kv::set`].
    ///
    /// # Cancel safety
    /// As [`Kv::set`].
    pub fn set_bytes(&self, key: impl IntoKey, bytes: impl Into<Bytes>) -> Set<'_> {
        Set::new(self, key.into_key().map(|key| Write { key, value: bytes.into(), when: When::Always }))
    }
}

/// A write of one key that happens when it is awaited.
///
/// It gives the version of the write. Once it has a condition it is a [`ConditionalSet`], whose outcome tells whether the
/// condition held.
#[derive(Debug)]
#[must_use = "nothing is written until the set is awaited"]
pub struct Set<'kv, Outcome = Option<Version>> {
    kv: &'kv Kv,
    /// What to write, or why it cannot be.
    write: Result<Write>,
    expiry: Expiry,
    return_previous: bool,
    outcome: PhantomData<fn() -> Outcome>,
}

/// A [`Set`] that tells what came of it: stored, or refused by its condition.
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

    /// Writes only where no live entry is there.
    pub fn if_absent(self) -> ConditionalSet<'kv> {
        self.when(|_, _| Ok(When::Absent))
    }

    /// Writes only where a live entry is there.
    pub fn if_present(self) -> ConditionalSet<'kv> {
        self.when(|_, _| Ok(When::Present))
    }

    /// Writes only where the live entry is of this version.
    pub fn if_version(self, version: Version) -> ConditionalSet<'kv> {
        self.when(|_, _| Ok(When::Version(version)))
    }

    /// Writes only where the live entry has exactly the bytes that this value is encoded to.
    ///
    /// Two encodings of an equal value differ for the store, such as maps in another order: see
    /// [`Kv::compare_and_swap`] for a comparison of values.
    pub fn if_value<T: Serialize + ?Sized>(self, value: &T) -> ConditionalSet<'kv> {
        self.when(|kv, key| kv.write_as(key, value).map(When::Value))
    }

    /// Writes only where the live entry has exactly these bytes.
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
    /// Sets how long the entry lives.
    pub fn expiry(mut self, expiry: Expiry) -> Self {
        self.expiry = expiry;
        self
    }

    expiry_methods!(keep);

    /// Asks for the entry that is replaced: the outcome brings it.
    pub fn with_previous(self) -> ConditionalSet<'kv> {
        let mut set = self.conditional();
        set.return_previous = true;
        set
    }

    fn conditional(self) -> ConditionalSet<'kv> {
        let Self { kv, write, expiry, return_previous, outcome: _ } = self;
        Set { kv, write, expiry, return_previous, outcome: PhantomData }
    }

    async fn send(self) -> Result<SetOutcome> {
        let Self { kv, write, expiry, return_previous, outcome: _ } = self;
        let Write { key, value, when } = write?;
        let options = SetOptions { expiry, when, return_previous };
        kv.store.set(&key, value, &options).await.map_err(|error| error.with_key(&key))
    }
}

impl<'kv> IntoFuture for Set<'kv> {
    type Output = Result<Option<Version>>;
    type IntoFuture = BoxFuture<'kv, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { stored(&self.send().await?) })
    }
}

impl<'kv> IntoFuture for ConditionalSet<'kv> {
    type Output = Result<SetOutcome>;
    type IntoFuture = BoxFuture<'kv, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

/// The version of a write that had no condition.
pub(super) fn stored(outcome: &SetOutcome) -> Result<Option<Version>> {
    match outcome {
        SetOutcome::Stored { version, previous: _ } => Ok(*version),
        // No store of the contract does that; one that does has written nothing.
        SetOutcome::Refused { .. } => Err(Error::unavailable("the store refused a set that has no condition")),
    }
}
