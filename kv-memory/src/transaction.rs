//! Committing a transaction.

use kv_core::{Capability, CommitOutcome, Error, Result, Transaction};

use crate::engine::Engine;
use crate::state::State;

impl State {
    pub(crate) async fn commit(&self, transaction: &Transaction) -> Result<CommitOutcome> {
        self.admit(1 + transaction.checks.len() + transaction.mutations.len()).await?;
        transaction.validate(&self.info.capabilities, &self.info.limits)?;
        match &self.engine {
            Engine::Unbounded(engine) => engine.commit(transaction),
            // Unreachable: a bounded store does not declare transactions, so `validate` has returned an error.
            Engine::Bounded(_) => Err(Error::unsupported(Capability::Transactions)),
        }
    }
}
