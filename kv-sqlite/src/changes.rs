//! The table of changes, by which watchers in other processes hear of writes.
//!
//! A handle with watchers has a row in the table of watchers, its lease. A writer that sees another handle's row logs the
//! keys that it changes, in the same transaction; where there is none, watching costs it one look at an empty table a
//! batch. Leases end so that a watcher that was killed is not written for any longer. What ends a lease is the removal of
//! the row, never a clock alone: the watcher finds at its next renewal that the row is gone, and tells a gap.

use std::time::{Duration, SystemTime};

use kv_core::{Clock, Key, SystemClock};
use rusqlite::{Connection, OptionalExtension, params};

use crate::statement::Statements;

/// How long a lease lasts without renewal.
pub(crate) const LEASE: Duration = Duration::from_secs(30);

/// How many changes are kept for watchers that come late; who comes later has a gap.
pub(crate) const MAX_CHANGES: i64 = 10_000;

/// How many changes a watcher reads at once.
const PAGE: i64 = 1_000;

/// The time that leases go by. It is not the store's clock, which a test may stop while processes live and die.
fn lease_millis(after: Duration) -> i64 {
    let moment = SystemClock.now().checked_add(after).unwrap_or(SystemTime::UNIX_EPOCH);
    let since = moment.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Whether a handle other than this one watches. Inside a transaction, leases that have ended are removed.
pub(crate) fn is_watched(connection: &Connection, sql: &Statements, handle: i64) -> rusqlite::Result<bool> {
    let look = || {
        connection
            .prepare_cached(&sql.watchers)?
            .query_row([handle], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Option<i64>>(1)?)))
    };
    let now = lease_millis(Duration::ZERO);
    match look()? {
        (0, _) => Ok(false),
        (_, Some(first)) if first <= now && !connection.is_autocommit() => {
            connection.prepare_cached(&sql.drop_watchers)?.execute([handle, now])?;
            connection.prepare_cached(&sql.drop_changes)?.execute([])?;
            Ok(look()?.0 > 0)
        }
        _ => Ok(true),
    }
}

/// Logs changed keys, each once, and prunes what is more than is kept.
pub(crate) fn log(connection: &Connection, sql: &Statements, handle: i64, keys: &[Key]) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(&sql.log)?;
    let mut logged = std::collections::HashSet::new();
    for key in keys.iter().filter(|key| logged.insert(*key)) {
        statement.execute(params![key.as_str(), handle])?;
    }
    connection.prepare_cached(&sql.prune)?.execute([connection.last_insert_rowid() - MAX_CHANGES])?;
    Ok(())
}

/// Takes or renews the lease. Where it is new, the changes that count begin behind the sequence that it gives.
pub(crate) fn register(connection: &Connection, sql: &Statements, handle: i64) -> rusqlite::Result<Option<i64>> {
    let expires = lease_millis(LEASE);
    if connection.prepare_cached(&sql.renew)?.execute([handle, expires])? > 0 {
        return Ok(None);
    }
    connection.prepare_cached(&sql.register)?.execute([handle, expires])?;
    let last = connection.prepare_cached(&sql.last_change)?.query_row([], |row| row.get(0)).optional()?;
    Ok(Some(last.unwrap_or(0)))
}

/// Gives the lease up.
pub(crate) fn deregister(connection: &Connection, sql: &Statements, handle: i64) -> rusqlite::Result<()> {
    connection.prepare_cached(&sql.deregister)?.execute([handle])?;
    connection.prepare_cached(&sql.drop_changes)?.execute([])?;
    Ok(())
}

/// What was logged behind a sequence, one page.
#[derive(Debug, Default)]
pub(crate) struct Logged {
    /// The keys that others changed.
    pub(crate) keys: Vec<Key>,
    /// The last sequence that was read, where there is one.
    pub(crate) last: Option<i64>,
    /// Whether something between was pruned, or cannot be read.
    pub(crate) has_gap: bool,
    /// Whether there may be more.
    pub(crate) is_full: bool,
}

/// Reads the changes behind `seen`.
pub(crate) fn read(connection: &Connection, sql: &Statements, handle: i64, seen: i64) -> rusqlite::Result<Logged> {
    let mut statement = connection.prepare_cached(&sql.changes)?;
    let mut rows = statement.query([seen, PAGE])?;
    let (mut logged, mut count) = (Logged::default(), 0);
    while let Some(row) = rows.next()? {
        let (sequence, origin): (i64, i64) = (row.get(0)?, row.get(2)?);
        // Sequences have no holes, because they are given inside the one write transaction and come back with a rollback.
        logged.has_gap |= sequence != logged.last.unwrap_or(seen) + 1;
        match row.get_ref(1)?.as_str().map(Key::parse_stored) {
            _ if origin == handle => {}
            Ok(Ok(key)) => logged.keys.push(key),
            _ => logged.has_gap = true,
        }
        logged.last = Some(sequence);
        count += 1;
    }
    logged.is_full = count == PAGE;
    Ok(logged)
}
