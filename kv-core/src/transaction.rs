//! Transactions: checks and mutations of several keys that apply together or not at all.

use bytes::Bytes;

use crate::capabilities::{Capabilities, Transactions};
use crate::capability::Capability;
use crate::error::{Error, Result};
use crate::expiry::Expiry;
use crate::key::Key;
use crate::limits::Limits;
use crate::options::When;
use crate::version::Version;

/// A condition on one key that a transaction requires.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Check {
    /// The key.
    pub key: Key,
    /// The condition.
    pub when: When,
}

/// One change of a transaction. If a transaction contains a kind that the adapter does not know, the adapter refuses
/// the transaction with `Invalid`. An adapter never skips a mutation (clause I-2).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mutation {
    /// Writes an entry.
    Set {
        /// The key to write.
        key: Key,
        /// The value to store.
        value: Bytes,
        /// The expiry of the entry.
        expiry: Expiry,
    },
    /// Removes an entry.
    Delete {
        /// The key to remove.
        key: Key,
    },
}

impl Mutation {
    /// Returns the key that the mutation changes.
    pub fn key(&self) -> &Key {
        match self {
            Self::Set { key, .. } | Self::Delete { key } => key,
        }
    }
}

/// Checks and mutations that `commit` applies in order, all or nothing (clause X-1).
///
/// # Examples
/// ```
/// use kv_core::{Expiry, Key, Transaction, When};
///
/// let (from, to) = (Key::new(["jobs", "1"])?, Key::new(["done", "1"])?);
/// let transaction = Transaction::new().check(from.clone(), When::Present).delete(from).set(to, "ok", Expiry::Never);
/// assert_eq!(transaction.mutations.len(), 2);
/// # Ok::<(), kv_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Transaction {
    /// The conditions that must hold before anything changes.
    pub checks: Vec<Check>,
    /// The changes, in order.
    pub mutations: Vec<Mutation>,
}

impl Transaction {
    /// Creates an empty transaction.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a condition.
    #[must_use]
    pub fn check(mut self, key: Key, when: When) -> Self {
        self.checks.push(Check { key, when });
        self
    }

    /// Adds a write.
    #[must_use]
    pub fn set(mut self, key: Key, value: impl Into<Bytes>, expiry: Expiry) -> Self {
        self.mutations.push(Mutation::Set { key, value: value.into(), expiry });
        self
    }

    /// Adds a removal.
    #[must_use]
    pub fn delete(mut self, key: Key) -> Self {
        self.mutations.push(Mutation::Delete { key });
        self
    }

    /// Returns the keys of all checks, then of all mutations, with repetitions.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.checks.iter().map(|check| &check.key).chain(self.mutations.iter().map(Mutation::key))
    }

    /// Checks that the store can commit this transaction. Every adapter calls this method before any I/O.
    ///
    /// # Errors
    /// `Unsupported` if the store has no transactions, cannot evaluate a condition, or cannot change these keys
    /// together; `Invalid` for a value over the limit.
    pub fn validate(&self, capabilities: &Capabilities, limits: &Limits) -> Result<()> {
        capabilities.require(Capability::Transactions)?;
        for check in &self.checks {
            if let When::Version(_) = check.when {
                capabilities.require(Capability::Versions)?;
            }
        }
        for mutation in &self.mutations {
            if let Mutation::Set { key, value, .. } = mutation {
                limits.check_value(value.len()).map_err(|error| error.with_key(key))?;
            }
        }
        if let Transactions::WithinFirst(segments) = capabilities.transactions {
            self.check_group(usize::from(segments))?;
        }
        Ok(())
    }

    fn check_group(&self, segments: usize) -> Result<()> {
        let mut keys = self.keys();
        let Some(first) = keys.next() else { return Ok(()) };
        match keys.find(|key| !first.segments().take(segments).eq(key.segments().take(segments))) {
            Some(stray) => Err(Error::unsupported(Capability::Transactions).with_key(stray)),
            None => Ok(()),
        }
    }
}

/// The outcome of a `commit`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a refused transaction changed nothing"]
pub enum CommitOutcome {
    /// All mutations were applied.
    Committed {
        /// One item for each mutation, in order: the version of a set; `None` for a delete or in a store without
        /// versions.
        versions: Vec<Option<Version>>,
    },
    /// A check did not hold; nothing changed.
    Refused {
        /// The index of the first such check in [`Transaction::checks`].
        check: usize,
    },
}

impl CommitOutcome {
    /// True if the transaction was applied.
    pub fn is_committed(&self) -> bool {
        matches!(self, Self::Committed { .. })
    }
}
