//! The writes of the contract, as the writer applies them.

use bytes::Bytes;
use kv_core::{
    CommitOutcome, DeleteOptions, DeleteOutcome, Error, Expiry, Key, Mutation, NewExpiry, SetOptions, SetOutcome,
    Transaction, Version, When, counter,
};

use crate::batch::Batch;
use crate::error::Abort;

/// One call that changes the store: applied inside the writer's transaction, where nobody else writes.
pub(crate) trait Write: Send + 'static {
    /// What the caller is told after the commit.
    type Outcome: Send + 'static;

    /// Judges and applies. It may be run again, after what it did was rolled back; a call that it refuses has changed
    /// nothing.
    fn apply(&self, batch: &Batch<'_>) -> Result<Self::Outcome, Abort>;

    /// What happens after the commit, before the caller is told.
    fn committed(&self, outcome: &Self::Outcome) {
        let _ = outcome;
    }

    /// The version that a `get` shows where the write has happened.
    fn version(&self) -> Option<Version> {
        None
    }

    /// How much it adds to a batch, in bytes.
    fn bytes(&self) -> usize {
        0
    }
}

#[derive(Debug)]
pub(crate) struct Set {
    pub(crate) key: Key,
    pub(crate) value: Bytes,
    pub(crate) options: SetOptions,
    pub(crate) version: Version,
}

impl Write for Set {
    type Outcome = SetOutcome;

    fn apply(&self, batch: &Batch<'_>) -> Result<SetOutcome, Abort> {
        let Self { key, value, options, version } = self;
        let mut previous = None;
        if options.when != When::Always || options.return_previous {
            let current = batch.current(key)?.map(|(entry, _)| entry);
            if !options.when.holds(current.as_ref()) {
                return Ok(SetOutcome::Refused { current });
            }
            previous = current.filter(|_| options.return_previous);
        }
        batch.write(key, value, version, batch.resolve(key, options.expiry)?)?;
        Ok(SetOutcome::Stored { version: Some(*version), previous })
    }

    fn version(&self) -> Option<Version> {
        Some(self.version)
    }

    fn bytes(&self) -> usize {
        self.value.len()
    }
}

#[derive(Debug)]
pub(crate) struct Delete {
    pub(crate) key: Key,
    pub(crate) options: DeleteOptions,
}

impl Write for Delete {
    type Outcome = DeleteOutcome;

    fn apply(&self, batch: &Batch<'_>) -> Result<DeleteOutcome, Abort> {
        let Self { key, options: DeleteOptions { when, return_previous, .. } } = self;
        if *when == When::Always && !return_previous {
            let was_live = batch.remove(key)?;
            return Ok(if was_live { DeleteOutcome::Deleted { previous: None } } else { DeleteOutcome::Missing });
        }
        let current = batch.current(key)?.map(|(entry, _)| entry);
        if !when.holds(current.as_ref()) {
            return Ok(DeleteOutcome::Refused { current });
        }
        if current.is_none() {
            return Ok(DeleteOutcome::Missing);
        }
        batch.remove(key)?;
        Ok(DeleteOutcome::Deleted { previous: current.filter(|_| *return_previous) })
    }
}

#[derive(Debug)]
pub(crate) struct Touch {
    pub(crate) key: Key,
    pub(crate) expiry: NewExpiry,
}

impl Write for Touch {
    type Outcome = bool;

    fn apply(&self, batch: &Batch<'_>) -> Result<bool, Abort> {
        let Self { key, expiry } = self;
        if batch.current_deadline(key)?.is_none() {
            return Ok(false);
        }
        batch.move_deadline(key, batch.resolve(key, (*expiry).into())?)?;
        Ok(true)
    }
}

#[derive(Debug)]
pub(crate) struct Increment {
    pub(crate) key: Key,
    pub(crate) by: i64,
    pub(crate) expiry: Expiry,
    pub(crate) version: Version,
}

impl Write for Increment {
    type Outcome = i64;

    fn apply(&self, batch: &Batch<'_>) -> Result<i64, Abort> {
        let Self { key, by, expiry, version } = self;
        let (sum, deadline) = match batch.current(key)? {
            Some((entry, deadline)) => (counter::add(&entry.value, *by)?, deadline),
            None => (*by, batch.resolve(key, *expiry)?),
        };
        batch.write(key, sum.to_string().as_bytes(), version, deadline)?;
        Ok(sum)
    }

    fn version(&self) -> Option<Version> {
        Some(self.version)
    }
}

#[derive(Debug)]
pub(crate) struct Commit {
    transaction: Transaction,
    /// One for each mutation; those of deletes are not used.
    versions: Vec<Version>,
}

impl Commit {
    pub(crate) fn new(transaction: Transaction) -> Self {
        let versions = transaction.mutations.iter().map(|_| Version::random()).collect();
        Self { transaction, versions }
    }
}

impl Write for Commit {
    type Outcome = CommitOutcome;

    fn apply(&self, batch: &Batch<'_>) -> Result<CommitOutcome, Abort> {
        for (place, check) in self.transaction.checks.iter().enumerate() {
            let current = batch.current(&check.key)?.map(|(entry, _)| entry);
            if !check.when.holds(current.as_ref()) {
                return Ok(CommitOutcome::Refused { check: place });
            }
        }
        let mutations = || self.transaction.mutations.iter().zip(&self.versions);
        let versions = batch.together(|| {
            mutations()
                .map(|(mutation, version)| match mutation {
                    Mutation::Set { key, value, expiry } => {
                        batch.write(key, value, version, batch.resolve(key, *expiry)?)?;
                        Ok(Some(*version))
                    }
                    Mutation::Delete { key } => {
                        batch.remove(key)?;
                        Ok(None)
                    }
                    // The contract may grow; what is not known here is not half done.
                    _ => Err(Error::unsupported(kv_core::Capability::Transactions).into()),
                })
                .collect::<Result<Vec<_>, Abort>>()
        })?;
        Ok(CommitOutcome::Committed { versions })
    }

    /// That of the last key that is written and not changed again.
    fn version(&self) -> Option<Version> {
        let Transaction { mutations, .. } = &self.transaction;
        let mut later = Vec::new();
        for (mutation, version) in mutations.iter().zip(&self.versions).rev() {
            let is_last = !later.contains(&mutation.key());
            if let (Mutation::Set { .. }, true) = (mutation, is_last) {
                return Some(*version);
            }
            later.push(mutation.key());
        }
        None
    }

    fn bytes(&self) -> usize {
        let sizes = self.transaction.mutations.iter().map(|mutation| match mutation {
            Mutation::Set { value, .. } => value.len(),
            _ => 0,
        });
        sizes.sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_is_found_by_a_version_that_nothing_overwrites() {
        let (a, b) = (Key::new(["a"]).unwrap(), Key::new(["b"]).unwrap());
        let never = Expiry::Never;
        let commit = Commit::new(Transaction::new().set(b.clone(), "1", never).set(a.clone(), "2", never).delete(a));
        assert_eq!(commit.version(), Some(commit.versions[0]));
        assert_eq!(Commit::new(Transaction::new().delete(b)).version(), None);
    }
}
