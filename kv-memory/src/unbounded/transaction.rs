//! Committing a transaction in the unbounded engine.

use kv_core::{Capability, CommitOutcome, Error, Mutation, Result, Transaction, Version};
use parking_lot::RwLockWriteGuard;

use super::engine::{Unbounded, position};
use super::shard::Shard;
use crate::slot::Slot;
use crate::update;

impl Unbounded {
    /// Evaluates all checks and applies all mutations while it holds the locks of all their shards (clause X-1).
    /// Therefore a reader that sees one effect of the transaction also sees all its other effects.
    pub(crate) fn commit(&self, transaction: &Transaction) -> Result<CommitOutcome> {
        let is_supported = |mutation: &Mutation| matches!(mutation, Mutation::Set { .. } | Mutation::Delete { .. });
        if !transaction.mutations.iter().all(is_supported) {
            return Err(Error::unsupported(Capability::Transactions));
        }
        let mut applied = Vec::with_capacity(transaction.mutations.len());
        {
            let mut locked = self.lock(transaction);
            let now = self.services.now();
            for (index, check) in transaction.checks.iter().enumerate() {
                let hash = self.index.hash(&check.key);
                let current = locked.shard(hash).find(hash, &check.key).filter(|slot| slot.is_live(&now));
                if !update::holds(&check.when, current) {
                    return Ok(CommitOutcome::Refused { check: index });
                }
            }
            for mutation in &transaction.mutations {
                let (key, version) = (mutation.key(), Version::random());
                let hash = self.index.hash(key);
                let update = |current: Option<&Slot>| match mutation {
                    Mutation::Set { value, expiry, .. } => update::put(current, value.clone(), version, *expiry, &now),
                    // This is `Mutation::Delete`, because `is_supported` has refused all other mutations.
                    _ => update::remove(),
                };
                let changes = &self.services.changes;
                let ((), effect) = locked.shard(hash).update(&self.index, changes, hash, key, update);
                let version = matches!(mutation, Mutation::Set { .. }).then_some(version);
                applied.push((version, effect));
            }
        }
        if applied.iter().any(|(_, effect)| effect.has_deadline) {
            self.services.sweeper.wake();
        }
        Ok(CommitOutcome::Committed { versions: applied.into_iter().map(|(version, _)| version).collect() })
    }

    fn lock<'a>(&'a self, transaction: &Transaction) -> LockedShards<'a> {
        let mut positions: Vec<_> = transaction.keys().map(|key| position(self.index.hash(key))).collect();
        // Lock each shard once and in ascending position. All transactions do so, so they cannot deadlock.
        positions.sort_unstable();
        positions.dedup();
        let guards = positions.into_iter().map(|position| (position, self.shard_at(position).write())).collect();
        LockedShards { guards }
    }
}

/// The locked shards of a transaction, with their positions.
struct LockedShards<'a> {
    guards: Vec<(usize, RwLockWriteGuard<'a, Shard>)>,
}

impl LockedShards<'_> {
    fn shard(&mut self, hash: u64) -> &mut Shard {
        let position = position(hash);
        #[expect(clippy::expect_used, reason = "the shard of every key of the transaction was locked")]
        let (_, shard) = self.guards.iter_mut().find(|(locked, _)| *locked == position).expect("a locked shard");
        shard
    }
}
