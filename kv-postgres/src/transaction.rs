//! Committing a transaction.
//!
//! A transaction first locks all its keys, in their order, so that two transactions never deadlock with each other. For
//! an absent key, the transaction inserts a placeholder, which is an expired row, and locks this row. Therefore a key
//! that a check found absent stays absent until the commit. No other session ever sees a placeholder, because it is
//! removed or overwritten before the commit.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::SystemTime;

use kv_core::adapter::Effect;
use kv_core::{CommitOutcome, Key, Mutation, Result, Transaction, Version, When};
use tokio_postgres::types::ToSql;

use crate::codec::{self, Lifetime};
use crate::connection::Connection;
use crate::error::{Failure, read_error};
use crate::state::State;

/// The maximum number of attempts of a transaction that conflicts with others.
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
    /// The key has an entry. If `keeps_deadline`, the entry has the deadline `lifetime.at`, or the deadline of the
    /// stored row if `lifetime.at` is `None`. A stored deadline that has passed counts as no deadline.
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

    /// Returns the effect of the commit, with the version of the last write. If an entry has this version, all writes
    /// of the transaction were applied.
    pub(crate) fn effect(&self) -> Effect {
        Effect::Write(self.versions.iter().rev().find_map(|version| *version))
    }

    /// Sends the transaction, and retries it after a conflict.
    pub(crate) async fn send(&self, state: &State) -> Result<CommitOutcome> {
        if self.transaction.keys().next().is_none() {
            return Ok(CommitOutcome::Committed { versions: Vec::new() });
        }
        let mut attempts = 0;
        loop {
            let mut connection = state.connections.get().await.map_err(read_error)?;
            let refused = match self.prepare(state, &mut connection).await {
                Ok(refused) => refused,
                Err(failure) => {
                    if failure.keeps_connection() && connection.execute("ROLLBACK").await.is_ok() {
                        connection.leave_transaction();
                    }
                    attempts += 1;
                    if attempts < MAX_ATTEMPTS && (failure.is_conflict() || failure.is_stale_statement()) {
                        continue;
                    }
                    // Nothing was committed.
                    return Err(read_error(failure));
                }
            };
            if let Some(check) = refused {
                // If the rollback fails, the connection is closed. This ends the transaction as well.
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
                Err(failure) if failure.is_conflict() && attempts < MAX_ATTEMPTS => {
                    connection.leave_transaction();
                    attempts += 1;
                }
                Err(failure) => return Err(failure.into_error(self.effect())),
            }
        }
    }

    /// Runs the transaction up to the commit. If a check does not hold, returns the index of the first such check.
    async fn prepare(&self, state: &State, connection: &mut Connection<'_>) -> Result<Option<usize>, Failure> {
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
        // Keys that are checked and not mutated. If such a key has a placeholder, the placeholder is removed.
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

    /// Returns the index of the first check that does not hold, and the moment of the checks if there are checks.
    async fn check(
        &self,
        state: &State,
        connection: &mut Connection<'_>,
    ) -> Result<(Option<usize>, Option<SystemTime>), Failure> {
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
            checked_at = Some(row.try_get(0).map_err(|_| Failure::UnexpectedShape)?);
            match (row.try_get(1), row.try_get(2), row.try_get(3)) {
                (Ok(Some(key)), Ok(Some(version)), Ok(value)) => drop(found.insert(key, (version, value))),
                // The result has a single row without a key, because all keys are absent.
                (Ok(None), _, _) => {}
                _ => return Err(Failure::UnexpectedShape),
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

    /// Returns the final state of each mutated key, after all mutations in their order.
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

    /// Writes the final entries.
    async fn apply(
        &self,
        state: &State,
        connection: &mut Connection<'_>,
        finals: &BTreeMap<&Key, Final<'_>>,
        checked_at: Option<SystemTime>,
    ) -> Result<(), Failure> {
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
