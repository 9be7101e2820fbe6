//! Transactions: checks and mutations of several keys that apply together or not at all.

use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;

use super::handle::Kv;
use crate::error::Result;
use crate::expiry::Expiry;
use crate::key::{IntoKey, Key};
use crate::options::When;
use crate::transaction::{CommitOutcome, Mutation, Transaction};
use crate::version::Version;

impl Kv {
    /// Starts a transaction of checks and mutations. [`TransactionBuilder::commit`] applies them all or none.
    ///
    /// # Examples
    /// ```
    /// # use kv_core::Kv;
    /// # use kv_memory::MemoryStore;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> kv_core::Result<()> {
    /// let kv = Kv::new(MemoryStore::new());
    /// let signed_up = kv
    ///     .transaction()
    ///     .check_absent(["emails", "ada@example.com"])
    ///     .set(["emails", "ada@example.com"], "1")
    ///     .set(["users", "1"], "ada")
    ///     .commit()
    ///     .await?;
    /// assert!(signed_up.is_committed());
    /// # Ok(())
    /// # }
    /// ```
    pub fn transaction(&self) -> TransactionBuilder<'_> {
        TransactionBuilder { kv: self, transaction: Ok(Transaction::new()) }
    }
}

/// A transaction, sent when it is committed.
///
/// An invalid key or a value that cannot be encoded is reported by the commit.
#[derive(Debug)]
#[must_use = "nothing happens until the transaction is committed"]
pub struct TransactionBuilder<'kv> {
    kv: &'kv Kv,
    transaction: Result<Transaction>,
}

impl TransactionBuilder<'_> {
    /// Requires that the key has no live entry.
    pub fn check_absent(self, key: impl IntoKey) -> Self {
        self.check(key, |_, _| Ok(When::Absent))
    }

    /// Requires that the key has a live entry.
    pub fn check_present(self, key: impl IntoKey) -> Self {
        self.check(key, |_, _| Ok(When::Present))
    }

    /// Requires that the live entry has this version.
    pub fn check_version(self, key: impl IntoKey, version: Version) -> Self {
        self.check(key, |_, _| Ok(When::Version(version)))
    }

    /// Requires that the bytes of the live entry equal the encoding of this value.
    pub fn check_value<T: Serialize + ?Sized>(self, key: impl IntoKey, value: &T) -> Self {
        self.check(key, |kv, key| kv.write_as(key, value).map(When::Value))
    }

    /// Writes a value with the handle's default expiry.
    pub fn set<T: Serialize + ?Sized>(self, key: impl IntoKey, value: &T) -> Self {
        let expiry = self.kv.default_expiry;
        self.set_with_expiry(key, value, expiry)
    }

    /// Writes a value that lives for this long after the commit.
    pub fn set_with_ttl<T: Serialize + ?Sized>(self, key: impl IntoKey, value: &T, ttl: Duration) -> Self {
        self.set_with_expiry(key, value, Expiry::After(ttl))
    }

    /// Writes a value with this expiry.
    pub fn set_with_expiry<T: Serialize + ?Sized>(self, key: impl IntoKey, value: &T, expiry: Expiry) -> Self {
        self.add(key, |kv, key, transaction| Ok(transaction.set(key.clone(), kv.write_as(key, value)?, expiry)))
    }

    /// Writes bytes without encoding them, with this expiry.
    pub fn set_bytes(self, key: impl IntoKey, bytes: impl Into<Bytes>, expiry: Expiry) -> Self {
        self.add(key, |_, key, transaction| Ok(transaction.set(key.clone(), bytes, expiry)))
    }

    /// Removes an entry, if there is one.
    pub fn delete(self, key: impl IntoKey) -> Self {
        self.add(key, |_, key, transaction| Ok(transaction.delete(key.clone())))
    }

    /// Applies the whole transaction, or nothing if a check does not hold.
    ///
    /// # Errors
    /// The first invalid key or value of the builder, before anything is sent. `Unsupported` without the transactions
    /// capability, or for keys that the store cannot change together. `Indeterminate` if the transaction may have been
    /// applied as a whole.
    ///
    /// # Cancel safety
    /// If the future is dropped, the transaction as a whole is not applied, was applied, or will be applied.
    pub async fn commit(self) -> Result<CommitOutcome> {
        let Self { kv, transaction } = self;
        let transaction = transaction?;
        let _writing = kv.fence_all(transaction.mutations.iter().map(Mutation::key)).await;
        kv.store.commit(&transaction).await
    }

    fn check(self, key: impl IntoKey, when: impl FnOnce(&Kv, &Key) -> Result<When>) -> Self {
        self.add(key, |kv, key, transaction| Ok(transaction.check(key.clone(), when(kv, key)?)))
    }

    fn add(self, key: impl IntoKey, add: impl FnOnce(&Kv, &Key, Transaction) -> Result<Transaction>) -> Self {
        let Self { kv, transaction } = self;
        let transaction = transaction.and_then(|transaction| add(kv, &key.into_key()?, transaction));
        Self { kv, transaction }
    }
}
