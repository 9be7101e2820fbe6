//! Transactions over several keys.
//!
//! A transaction first locks all its keys, in their order. For an absent key it inserts an expired row and locks that;
//! no other session ever sees the row. So a key that a check found absent stays absent until the commit, and two
//! transactions never deadlock with each other.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::SystemTime;

use kv_core::adapter::Effect;
use kv_core::{CommitOutcome, Key, Mutation, Result, Transaction, Version, When};
use tokio_postgres::types::ToSql;

use crate::codec::{self, Lifetime};
use crate::connection::Connection;
use crate::error::Fault;
use crate::state::State;

/// Attempts of a transaction that conflicts with others.
const MAX_ATTEMPTS: usize = 10;

/// A transaction and the new versions of its writes.
#[derive(Debug)]
pub(crate) struct Commit {
    transaction: Transaction,
    versions: Vec<Option<Version>>,
}

/// The final state of one key after a transaction.
#[derive(Debug, Clone, Copy)]
enum Final<'t> {
    /// With `keeps_deadline`, the deadline is the moment of `lifetime` if that is in the future. Without such a moment,
    /// it is the deadline of the stored row.
    Entry {
        value: &'t [u8],
        version: Version,
        lifetime: Lifetime,
        keeps_deadline: bool,
    },
    Absent,
}

impl Commit {
    pub(crate) fn new(transaction: Transaction) -> Self {
        let versions = transaction.mutations.iter();
        let versions =
            versions.map(|mutation| matches!(mutation, Mutation::Set { .. }).then(Version::random)).collect();
        Self { transaction, versions }
    }

    /// The effect of the commit. The version is that of the last write, which proves all of them.
    pub(crate) fn effect(&self) -> Effect {
        Effect::Write(self.versions.iter().rev().find_map(|version| *version))
    }

    pub(crate) async fn send(&self, state: &State) -> Result<CommitOutcome> {
        if self.transaction.keys().next().is_none() {
            return Ok(CommitOutcome::Committed { versions: Vec::new() });
        }
        let mut attempts = 0;
        loop {
            let mut connection = state.connections.get().await.map_err(|fault| fault.into_error(Effect::Read))?;
            let refused = match self.prepare(state, &mut connection).await {
                Ok(refused) => refused,
                Err(fault) => {
                    if fault.keeps_connection() && connection.execute("ROLLBACK").await.is_ok() {
                        connection.leave_transaction();
                    }
                    attempts += 1;
                    if attempts < MAX_ATTEMPTS && (fault.is_conflict() || fault.is_stale_statement()) {
                        continue;
                    }
                    // Nothing was committed.
                    return Err(fault.into_error(Effect::Read));
                }
            };
            if let Some(check) = refused {
                // If the rollback fails, the connection is dropped, which ends the transaction as well.
                if connection.execute("ROLLBACK").await.is_ok() {
                    connection.leave_transaction();
                }
                return Ok(CommitOutcome::Refused { check });
            }
            match connection.execute("COMMIT").await {
                Ok(()) => {
                    connection.leave_transaction();
                    return Ok(CommitOutcome::Committed { versions: self.versions.clone() });
                }
                Err(fault) if fault.is_conflict() && attempts < MAX_ATTEMPTS => {
                    connection.leave_transaction();
                    attempts += 1;
                }
                Err(fault) => return Err(fault.into_error(self.effect())),
            }
        }
    }

    /// Does everything but the commit. Returns the index of the first check that does not hold.
    async fn prepare(&self, state: &State, connection: &mut Connection<'_>) -> Result<Option<usize>, Fault> {
        connection.enter_transaction();
        connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED").await?;
        let keys: BTreeSet<&str> = self.transaction.keys().map(Key::as_str).collect();
        let keys: Vec<_> = keys.into_iter().collect();
        connection.query(&state.sql.lock, &[&keys]).await?;
        let (refused, checked_at) = self.check(state, connection).await?;
        if refused.is_some() {
            return Ok(refused);
        }
        let finals = self.finals();
        self.apply(state, connection, &finals, checked_at).await?;
        let removed = finals.iter().filter(|(_, last)| matches!(last, Final::Absent)).map(|(key, _)| key.as_str());
        // The keys of checks without mutation. Only the rows that were inserted for their locks are removed.
        let checked: Vec<_> = self
            .transaction
            .checks
            .iter()
            .filter(|check| !finals.contains_key(&check.key))
            .map(|check| check.key.as_str())
            .collect();
        let absent: Vec<_> = removed.chain(checked.iter().copied()).collect();
        if !absent.is_empty() {
            connection.query(&state.sql.remove, &[&absent, &checked]).await?;
        }
        Ok(None)
    }

    /// Returns the index of the first check that does not hold, and the moment of the checks if there are any.
    async fn check(
        &self,
        state: &State,
        connection: &mut Connection<'_>,
    ) -> Result<(Option<usize>, Option<SystemTime>), Fault> {
        let checks = &self.transaction.checks;
        if checks.is_empty() {
            return Ok((None, None));
        }
        let keys: Vec<_> = checks.iter().map(|check| check.key.as_str()).collect();
        let by_value: Vec<_> = checks
            .iter()
            .filter(|check| matches!(check.when, When::Value(_)))
            .map(|check| check.key.as_str())
            .collect();
        let rows = connection.query(&state.sql.inspect, &[&keys, &by_value]).await?;
        let mut found: HashMap<&str, (&[u8], Option<&[u8]>)> = HashMap::with_capacity(rows.len());
        let mut checked_at = None;
        for row in &rows {
            checked_at = Some(row.try_get(0).map_err(|_| Fault::Shape)?);
            match (row.try_get(1), row.try_get(2), row.try_get(3)) {
                (Ok(Some(key)), Ok(Some(version)), Ok(value)) => drop(found.insert(key, (version, value))),
                // All keys are absent.
                (Ok(None), _, _) => {}
                _ => return Err(Fault::Shape),
            }
        }
        let refused = checks.iter().position(|check| {
            let current = found.get(check.key.as_str());
            !match (&check.when, current) {
                (When::Always, _) | (When::Absent, None) | (When::Present, Some(_)) => true,
                (When::Version(version), Some((current, _))) => *current == version.as_bytes(),
                (When::Value(value), Some((_, current))) => *current == Some(value.as_ref()),
                _ => false,
            }
        });
        Ok((refused, checked_at))
    }

    /// The final state of each mutated key, after all mutations in their order.
    fn finals(&self) -> BTreeMap<&Key, Final<'_>> {
        let mut finals: BTreeMap<&Key, Final<'_>> = BTreeMap::new();
        for (mutation, version) in self.transaction.mutations.iter().zip(&self.versions) {
            let (Mutation::Set { key, .. } | Mutation::Delete { key }) = mutation else { continue };
            let last = match (mutation, version) {
                (Mutation::Set { value, expiry, .. }, Some(version)) => {
                    let (lifetime, keeps_deadline) = match (Lifetime::new(*expiry), finals.get(key)) {
                        (Some(lifetime), _) => (lifetime, false),
                        (None, None) => (Lifetime::NEVER, true),
                        (None, Some(Final::Absent | Final::Entry { lifetime: Lifetime::EXPIRED, .. })) => {
                            (Lifetime::NEVER, false)
                        }
                        (None, Some(Final::Entry { lifetime, keeps_deadline, .. })) => {
                            (*lifetime, *keeps_deadline || lifetime.at.is_some())
                        }
                    };
                    Final::Entry { value, version: *version, lifetime, keeps_deadline }
                }
                _ => Final::Absent,
            };
            finals.insert(key, last);
        }
        finals
    }

    async fn apply(
        &self,
        state: &State,
        connection: &mut Connection<'_>,
        finals: &BTreeMap<&Key, Final<'_>>,
        checked_at: Option<SystemTime>,
    ) -> Result<(), Fault> {
        let (mut keys, mut values, mut versions, mut checksums) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (mut moments, mut millis, mut keeps) = (Vec::new(), Vec::new(), Vec::new());
        for (key, last) in finals {
            let Final::Entry { value, version, lifetime, keeps_deadline } = last else { continue };
            keys.push(key.as_str());
            values.push(*value);
            versions.push(version.as_bytes());
            checksums.push(codec::checksum_of(key, version.as_bytes(), value));
            keeps.push(*keeps_deadline);
            moments.push(lifetime.at);
            millis.push(lifetime.millis);
        }
        if keys.is_empty() {
            return Ok(());
        }
        let apply: [&(dyn ToSql + Sync); 8] =
            [&keys, &values, &versions, &checksums, &moments, &millis, &keeps, &checked_at];
        connection.query(&state.sql.apply, &apply).await.map(drop)
    }
}
