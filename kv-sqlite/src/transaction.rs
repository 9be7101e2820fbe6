//! Committing a transaction.

use kv_core::{CommitOutcome, Error, Mutation, Result, Transaction, Version};

use crate::error::Failure;
use crate::state::State;
use crate::writer::job::Write;
use crate::writer::rows::Rows;

impl State {
    pub(crate) async fn commit(&self, transaction: &Transaction) -> Result<CommitOutcome> {
        let queue = self.queue()?;
        transaction.validate(self.capabilities(), &self.info.limits)?;
        queue.call(Commit::new(transaction.clone())).await
    }
}

#[derive(Debug)]
struct Commit {
    transaction: Transaction,
    /// One version per mutation. The version of a delete is not used.
    versions: Vec<Version>,
}

impl Commit {
    fn new(transaction: Transaction) -> Self {
        let versions = transaction.mutations.iter().map(|_| Version::random()).collect();
        Self { transaction, versions }
    }
}

impl Write for Commit {
    type Outcome = CommitOutcome;

    fn apply(&self, rows: &Rows<'_>) -> Result<CommitOutcome, Failure> {
        for (index, check) in self.transaction.checks.iter().enumerate() {
            let current = rows.current(&check.key)?.map(|(entry, _)| entry);
            if !check.when.holds(current.as_ref()) {
                return Ok(CommitOutcome::Refused { check: index });
            }
        }
        let mutations = || self.transaction.mutations.iter().zip(&self.versions);
        let versions = rows.atomically(|| {
            mutations()
                .map(|(mutation, version)| match mutation {
                    Mutation::Set { key, value, expiry } => {
                        rows.write(key, value, version, rows.resolve(key, *expiry)?)?;
                        Ok(Some(*version))
                    }
                    Mutation::Delete { key } => {
                        rows.remove(key)?;
                        Ok(None)
                    }
                    // `Mutation` is non-exhaustive. An unknown mutation fails the whole transaction.
                    _ => Err(Error::unsupported(kv_core::Capability::Transactions).into()),
                })
                .collect::<Result<Vec<_>, Failure>>()
        })?;
        Ok(CommitOutcome::Committed { versions })
    }

    /// Returns the version of the last set whose key no later mutation changes; `None` if there is no such set.
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

    fn grows(&self) -> bool {
        self.transaction.mutations.iter().any(|mutation| matches!(mutation, Mutation::Set { .. }))
    }
}

#[cfg(test)]
mod tests {
    use kv_core::{Expiry, Key};

    use super::*;

    #[test]
    fn the_version_of_a_commit_is_of_a_set_that_no_later_mutation_overwrites() {
        let (a, b) = (Key::new(["a"]).unwrap(), Key::new(["b"]).unwrap());
        let never = Expiry::Never;
        let commit = Commit::new(Transaction::new().set(b.clone(), "1", never).set(a.clone(), "2", never).delete(a));
        assert_eq!(commit.version(), Some(commit.versions[0]));
        assert_eq!(Commit::new(Transaction::new().delete(b)).version(), None);
    }
}
