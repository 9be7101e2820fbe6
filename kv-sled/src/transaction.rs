//! Committing a transaction, as one write of the batch.

use kv_core::{Check, CommitOutcome, Error, Expiry, Mutation, Result, Transaction, Version, When};

use crate::batch_builder::BatchBuilder;
use crate::evaluate::{put, remove};
use crate::queue::Queue;
use crate::request::WriteInfo;

impl Queue {
    pub(crate) async fn commit(&self, transaction: &Transaction) -> Result<CommitOutcome> {
        transaction.validate(&self.state.info.capabilities, &self.state.info.limits)?;
        let transaction = transaction.clone();
        let versions: Vec<_> = transaction.mutations.iter().map(|_| Version::random()).collect();
        let bytes = transaction.mutations.iter().map(mutation_bytes).sum();
        let info = WriteInfo { key: None, version: versions.first().copied(), bytes };
        self.write(info, move |batch| evaluate(batch, &transaction, &versions)).await
    }
}

/// Checks and applies a transaction. `versions` has one version for each mutation.
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
    // All reads that can fail come before the first change; the batch caches them. So a failed commit changes nothing.
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

/// Approximate bytes that a mutation adds to a batch.
fn mutation_bytes(mutation: &Mutation) -> usize {
    match mutation {
        Mutation::Set { key, value, .. } => key.as_str().len() + value.len(),
        other => other.key().as_str().len(),
    }
}
