//! Transactions over several keys.
//!
//! All keys are locked first, in their order, also those that are not there: a row is put there for the time of the transaction
//! and nobody else ever sees it. So a key that was found absent stays so until the commit, and no two transactions wait for
//! each other in a circle.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::SystemTime;

use kv_core::{CommitOutcome, Key, Mutation, Result, Transaction, Version, When};
use tokio_postgres::types::ToSql;

use crate::codec::{self, Lifetime};
use crate::error::{Effect, Fault};
use crate::link::Link;
use crate::state::Core;

/// A transaction that met others is tried again, so often.
const TRIES: usize = 10;

/// A transaction and the versions that its writes give.
#[derive(Debug)]
pub(crate) struct Commit {
    transaction: Transaction,
    versions: Vec<Option<Version>>,
}

/// What a transaction leaves under one key.
#[derive(Debug, Clone, Copy)]
enum Left<'t> {
    /// With `keeps`, the deadline is the moment of the lifetime as long as that has not come; the one that is there, where there
    /// is no such moment.
    Entry {
        value: &'t [u8],
        version: Version,
        lifetime: Lifetime,
        keeps: bool,
    },
    Nothing,
}

impl Commit {
    pub(crate) fn new(transaction: Transaction) -> Self {
        let versions = transaction.mutations.iter();
        let versions =
            versions.map(|mutation| matches!(mutation, Mutation::Set { .. }).then(Version::random)).collect();
        Self { transaction, versions }
    }

    /// With the version of the last write, as one tells for all.
    pub(crate) fn effect(&self) -> Effect {
        Effect::Write(self.versions.iter().rev().find_map(|version| *version))
    }

    pub(crate) async fn send(&self, core: &Core) -> Result<CommitOutcome> {
        if self.transaction.keys().next().is_none() {
            return Ok(CommitOutcome::Committed { versions: Vec::new() });
        }
        let mut tries = 0;
        loop {
            let mut link = core.links.get().await.map_err(|fault| fault.into_error(Effect::None))?;
            let refused = match self.prepare(core, &mut link).await {
                Ok(refused) => refused,
                Err(fault) => {
                    if fault.spares_connection() && link.batch("ROLLBACK").await.is_ok() {
                        link.release();
                    }
                    tries += 1;
                    if tries < TRIES && (fault.is_to_repeat() || fault.is_stale_statement()) {
                        continue;
                    }
                    // Nothing was committed.
                    return Err(fault.into_error(Effect::None));
                }
            };
            if let Some(check) = refused {
                // Where it does not come through, the connection is given up, and with it the transaction.
                if link.batch("ROLLBACK").await.is_ok() {
                    link.release();
                }
                return Ok(CommitOutcome::Refused { check });
            }
            match link.batch("COMMIT").await {
                Ok(()) => {
                    link.release();
                    return Ok(CommitOutcome::Committed { versions: self.versions.clone() });
                }
                Err(fault) if fault.is_to_repeat() && tries < TRIES => {
                    link.release();
                    tries += 1;
                }
                Err(fault) => return Err(fault.into_error(self.effect())),
            }
        }
    }

    /// Does everything but the commit; or tells the check that does not hold.
    async fn prepare(&self, core: &Core, link: &mut Link<'_>) -> Result<Option<usize>, Fault> {
        link.hold();
        link.batch("BEGIN ISOLATION LEVEL READ COMMITTED").await?;
        let keys: BTreeSet<&str> = self.transaction.keys().map(Key::as_str).collect();
        let keys: Vec<_> = keys.into_iter().collect();
        link.query(&core.sql.lock, &[&keys]).await?;
        let (refused, judged_at) = self.judge(core, link).await?;
        if refused.is_some() {
            return Ok(refused);
        }
        let left = self.left();
        self.apply(core, link, &left, judged_at).await?;
        let removed = left.iter().filter(|(_, left)| matches!(left, Left::Nothing)).map(|(key, _)| key.as_str());
        // Of these only what was put there to be locked.
        let checked: Vec<_> = self
            .transaction
            .checks
            .iter()
            .filter(|check| !left.contains_key(&check.key))
            .map(|check| check.key.as_str())
            .collect();
        let gone: Vec<_> = removed.chain(checked.iter().copied()).collect();
        if !gone.is_empty() {
            link.query(&core.sql.remove, &[&gone, &checked]).await?;
        }
        Ok(None)
    }

    /// The first check that does not hold, and the moment by which they were judged, where there are any.
    async fn judge(&self, core: &Core, link: &mut Link<'_>) -> Result<(Option<usize>, Option<SystemTime>), Fault> {
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
        let rows = link.query(&core.sql.inspect, &[&keys, &by_value]).await?;
        let mut found: HashMap<&str, (&[u8], Option<&[u8]>)> = HashMap::with_capacity(rows.len());
        let mut judged_at = None;
        for row in &rows {
            judged_at = Some(row.try_get(0).map_err(|_| Fault::Shape)?);
            match (row.try_get(1), row.try_get(2), row.try_get(3)) {
                (Ok(Some(key)), Ok(Some(version)), Ok(value)) => drop(found.insert(key, (version, value))),
                // None of the keys is there.
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
        Ok((refused, judged_at))
    }

    /// What is left under each key when all mutations were done in their order.
    fn left(&self) -> BTreeMap<&Key, Left<'_>> {
        let mut left: BTreeMap<&Key, Left<'_>> = BTreeMap::new();
        for (mutation, version) in self.transaction.mutations.iter().zip(&self.versions) {
            let (Mutation::Set { key, .. } | Mutation::Delete { key }) = mutation else { continue };
            let after = match (mutation, version) {
                (Mutation::Set { value, expiry, .. }, Some(version)) => {
                    let (lifetime, keeps) = match (Lifetime::new(*expiry), left.get(key)) {
                        (Some(lifetime), _) => (lifetime, false),
                        (None, None) => (Lifetime::NEVER, true),
                        (None, Some(Left::Nothing | Left::Entry { lifetime: Lifetime::PASSED, .. })) => {
                            (Lifetime::NEVER, false)
                        }
                        (None, Some(Left::Entry { lifetime, keeps, .. })) => {
                            (*lifetime, *keeps || lifetime.at.is_some())
                        }
                    };
                    Left::Entry { value, version: *version, lifetime, keeps }
                }
                _ => Left::Nothing,
            };
            left.insert(key, after);
        }
        left
    }

    async fn apply(
        &self,
        core: &Core,
        link: &mut Link<'_>,
        left: &BTreeMap<&Key, Left<'_>>,
        judged_at: Option<SystemTime>,
    ) -> Result<(), Fault> {
        let (mut keys, mut values, mut versions, mut checksums) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (mut moments, mut millis, mut keeps) = (Vec::new(), Vec::new(), Vec::new());
        for (key, left) in left {
            let Left::Entry { value, version, lifetime, keeps: own } = left else { continue };
            keys.push(key.as_str());
            values.push(*value);
            versions.push(version.as_bytes());
            checksums.push(codec::checksum_of(key, version.as_bytes(), value));
            keeps.push(*own);
            moments.push(lifetime.at);
            millis.push(lifetime.millis);
        }
        if keys.is_empty() {
            return Ok(());
        }
        let apply: [&(dyn ToSql + Sync); 8] =
            [&keys, &values, &versions, &checksums, &moments, &millis, &keeps, &judged_at];
        link.query(&core.sql.apply, &apply).await.map(drop)
    }
}
