//! Committing a transaction.
//!
//! A transaction is evaluated as one write, so its changes are in the same batch.

use kv_core::{Check, CommitOutcome, Error, Expiry, Mutation, Result, Transaction, Version, When};

use crate::batch_builder::BatchBuilder;
use crate::evaluate::{put, remove};
use crate::queue::Queue;
use crate::request::WriteInfo;

impl Queue {
    pub(crate) async fn commit(&self, transaction: &Transaction) -> Result<CommitOutcome> {
        self.state.health.check_write()?;
        transaction.validate(&self.state.info.capabilities, &self.state.info.limits)?;
        let transaction = transaction.clone();
        let versions: Vec<_> = transaction.mutations.iter().map(|_| Version::random()).collect();
        let bytes = transaction.mutations.iter().map(mutation_bytes).sum();
        let info = WriteInfo { key: None, version: versions.first().copied(), bytes, is_removal: false };
        self.write(info, move |batch| evaluate(batch, &transaction, &versions)).await
    }
}

/// Evaluates the checks of a transaction and adds its mutations to the batch. `versions` has one version per mutation.
fn evaluate(batch: &mut BatchBuilder<'_>, transaction: &Transaction, versions: &[Version]) -> Result<CommitOutcome> {
    let Transaction { checks, mutations, .. } = transaction;
    for (position, Check { key, when, .. }) in checks.iter().enumerate() {
        if *when != When::Always {
            let live = batch.live(key)?.map(|(entry, _)| entry);
            if !when.holds(live.as_ref()) {
                return Ok(CommitOutcome::Refused { check: position });
            }
        }
    }
    // Make all reads that can fail before the first change, so that a failed commit changes nothing. The batch keeps
    // the records that were read.
    for mutation in mutations {
        match mutation {
            Mutation::Set { key, expiry: Expiry::Keep, .. } => drop(batch.live_deadline(key)?),
            Mutation::Set { key, .. } | Mutation::Delete { key, .. } => drop(batch.stored(key)?),
            _ => return Err(Error::invalid("the transaction has a mutation that this store does not know")),
        }
    }
    let mut assigned = Vec::with_capacity(mutations.len());
    for (mutation, version) in mutations.iter().zip(versions) {
        match mutation {
            Mutation::Set { key, value, expiry, .. } => {
                put(batch, key, value, *version, *expiry)?;
                assigned.push(Some(*version));
            }
            other => {
                remove(batch, other.key())?;
                assigned.push(None);
            }
        }
    }
    Ok(CommitOutcome::Committed { versions: assigned })
}

/// The approximate number of bytes that a mutation adds to a batch.
fn mutation_bytes(mutation: &Mutation) -> usize {
    match mutation {
        Mutation::Set { key, value, .. } => key.as_str().len() + value.len(),
        other => other.key().as_str().len(),
    }
}
