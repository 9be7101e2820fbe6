//! Transactions over any keys.

use kv_core::{Capability, CommitOutcome, Error, Mutation, Result, Transaction, Version};
use parking_lot::RwLockWriteGuard;

use super::{Shard, Unbounded, place};
use crate::decide;
use crate::slot::Slot;

impl Unbounded {
    /// Judges all checks and applies all mutations while it holds every shard that they touch (clause X-1): what has seen
    /// one effect waits for the locks of the others.
    pub(crate) fn commit(&self, transaction: &Transaction) -> Result<CommitOutcome> {
        let is_known = |mutation: &Mutation| matches!(mutation, Mutation::Set { .. } | Mutation::Delete { .. });
        if !transaction.mutations.iter().all(is_known) {
            return Err(Error::unsupported(Capability::Transactions));
        }
        let mut applied = Vec::with_capacity(transaction.mutations.len());
        {
            let mut locked = self.lock(transaction);
            let now = self.context.now();
            for (place, check) in transaction.checks.iter().enumerate() {
                let hash = self.shared.hash(&check.key);
                let current = locked.shard(hash).find(hash, &check.key).filter(|slot| slot.is_live(&now));
                if !decide::holds(&check.when, current) {
                    return Ok(CommitOutcome::Refused { check: place });
                }
            }
            for mutation in &transaction.mutations {
                let (key, version) = (mutation.key(), Version::random());
                let hash = self.shared.hash(key);
                let decide = |current: Option<&Slot>| match mutation {
                    Mutation::Set { value, expiry, .. } => decide::put(current, value.clone(), version, *expiry, &now),
                    // The other one that is known.
                    _ => decide::remove(),
                };
                let ((), change) = locked.shard(hash).mutate(&self.shared, hash, key, decide);
                let version = matches!(mutation, Mutation::Set { .. }).then_some(version);
                applied.push((key, version, change));
            }
        }
        let versions = applied.into_iter().map(|(key, version, change)| {
            if change.happened {
                self.context.changed(key, change.is_passing);
            }
            version
        });
        Ok(CommitOutcome::Committed { versions: versions.collect() })
    }

    fn lock<'a>(&'a self, transaction: &Transaction) -> Locked<'a> {
        let mut places: Vec<_> = transaction.keys().map(|key| place(self.shared.hash(key))).collect();
        // One order for everyone, each shard once: two transactions never wait for each other.
        places.sort_unstable();
        places.dedup();
        Locked { guards: places.into_iter().map(|place| (place, self.shard_at(place).write())).collect() }
    }
}

/// The shards of a transaction, by place.
struct Locked<'a> {
    guards: Vec<(usize, RwLockWriteGuard<'a, Shard>)>,
}

impl Locked<'_> {
    fn shard(&mut self, hash: u64) -> &mut Shard {
        let place = place(hash);
        #[expect(clippy::expect_used, reason = "the shard of every key of the transaction was locked")]
        let (_, shard) = self.guards.iter_mut().find(|(locked, _)| *locked == place).expect("a locked shard");
        shard
    }
}
