//! Checks and mutations of several keys, all or nothing.

use bytes::Bytes;

use crate::capability::{Capabilities, Capability, Transactions};
use crate::error::{Error, Result};
use crate::expiry::Expiry;
use crate::key::Key;
use crate::limits::Limits;
use crate::options::When;
use crate::version::Version;

/// A condition on one key that a transaction needs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Check {
    /// The key.
    pub key: Key,
    /// What must hold.
    pub when: When,
}

/// One change of a transaction. An adapter that does not know a kind answers `Invalid` to the whole, and never passes it over
/// (clause I-2).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mutation {
    /// Writes an entry.
    Set {
        /// Where.
        key: Key,
        /// What.
        value: Bytes,
        /// How long it lives.
        expiry: Expiry,
    },
    /// Removes an entry.
    Delete {
        /// Which.
        key: Key,
    },
}

impl Mutation {
    /// The key that changes.
    pub fn key(&self) -> &Key {
        match self {
            Self::Set { key, .. } | Self::Delete { key } => key,
        }
    }
}

/// Checks and mutations that `commit` applies in the order given, all or nothing (clause X-1).
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
    /// What must hold before anything changes.
    pub checks: Vec<Check>,
    /// What changes, in order.
    pub mutations: Vec<Mutation>,
}

impl Transaction {
    /// A transaction of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Needs a condition to hold.
    #[must_use]
    pub fn check(mut self, key: Key, when: When) -> Self {
        self.checks.push(Check { key, when });
        self
    }

    /// Writes an entry.
    #[must_use]
    pub fn set(mut self, key: Key, value: impl Into<Bytes>, expiry: Expiry) -> Self {
        self.mutations.push(Mutation::Set { key, value: value.into(), expiry });
        self
    }

    /// Removes an entry.
    #[must_use]
    pub fn delete(mut self, key: Key) -> Self {
        self.mutations.push(Mutation::Delete { key });
        self
    }

    /// Every key that is checked or changed, in order, repeated where it stands more than once.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.checks.iter().map(|check| &check.key).chain(self.mutations.iter().map(Mutation::key))
    }

    /// Refuses what the store cannot do. Every adapter calls it first.
    ///
    /// # Errors
    /// `Unsupported` without transactions, for conditions that the store cannot judge, or for keys of two groups;
    /// `Invalid` for a value over the limit.
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

/// What came of a `commit`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a refused transaction changed nothing"]
pub enum CommitOutcome {
    /// Everything was applied.
    Committed {
        /// One for each mutation, in order: the version that a set gave; `None` for a delete, or without versions.
        versions: Vec<Option<Version>>,
    },
    /// A check did not hold, and nothing was changed.
    Refused {
        /// The place of the first such check in [`Transaction::checks`].
        check: usize,
    },
}

impl CommitOutcome {
    /// Whether everything was applied.
    pub fn is_committed(&self) -> bool {
        matches!(self, Self::Committed { .. })
    }
}
