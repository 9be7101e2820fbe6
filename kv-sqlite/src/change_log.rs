//! The change log, which carries changed keys to watchers in other processes.
//!
//! A handle with watchers has a lease: a row in the table of watchers. A writer that finds the lease of another handle
//! logs the keys that it changes, in the same transaction. Without leases, watching costs a writer one look at an empty
//! table per batch. A lease expires, so that writers stop logging for a killed watcher. Only the deletion of its row
//! ends a lease, never a clock alone: a watcher that finds its row missing at the next renewal reports a gap.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use kv_core::{Clock, Key, SystemClock};
use rusqlite::{Connection, OptionalExtension, params};

use crate::statement::Statements;

/// The duration of a lease without renewal.
pub(crate) const LEASE: Duration = Duration::from_secs(30);

/// The number of changes that the log keeps. A watcher that is further behind gets a gap.
pub(crate) const MAX_CHANGES: i64 = 10_000;

/// The number of changes that a watcher reads at once.
const PAGE: i64 = 1_000;

/// The time of leases. It is the system's and not the store's clock: a test may stop that one while processes start and
/// end.
fn lease_millis(after: Duration) -> i64 {
    let moment = SystemClock.now().checked_add(after).unwrap_or(SystemTime::UNIX_EPOCH);
    let since = moment.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// True if another handle than this one has a lease. Inside a transaction, this also deletes expired leases.
pub(crate) fn is_watched(connection: &Connection, sql: &Statements, handle: i64) -> rusqlite::Result<bool> {
    let other_leases = || {
        connection
            .prepare_cached(&sql.other_leases)?
            .query_row([handle], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Option<i64>>(1)?)))
    };
    let now = lease_millis(Duration::ZERO);
    match other_leases()? {
        (0, _) => Ok(false),
        (_, Some(first_expiry)) if first_expiry <= now && !connection.is_autocommit() => {
            connection.prepare_cached(&sql.expire_leases)?.execute([handle, now])?;
            connection.prepare_cached(&sql.clear_unwatched_log)?.execute([])?;
            Ok(other_leases()?.0 > 0)
        }
        _ => Ok(true),
    }
}

/// Logs each changed key once, and prunes the log to [`MAX_CHANGES`].
pub(crate) fn log(connection: &Connection, sql: &Statements, handle: i64, keys: &[Key]) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(&sql.log_change)?;
    let mut logged = HashSet::new();
    for key in keys.iter().filter(|key| logged.insert(*key)) {
        statement.execute(params![key.as_str(), handle])?;
    }
    connection.prepare_cached(&sql.prune_changes)?.execute([connection.last_insert_rowid() - MAX_CHANGES])?;
    Ok(())
}

/// Takes or renews the lease. For a new lease, returns the last sequence number that it does not cover.
pub(crate) fn take_lease(connection: &Connection, sql: &Statements, handle: i64) -> rusqlite::Result<Option<i64>> {
    let expires = lease_millis(LEASE);
    if connection.prepare_cached(&sql.renew_lease)?.execute([handle, expires])? > 0 {
        return Ok(None);
    }
    connection.prepare_cached(&sql.insert_lease)?.execute([handle, expires])?;
    let last = connection.prepare_cached(&sql.last_change)?.query_row([], |row| row.get(0)).optional()?;
    Ok(Some(last.unwrap_or(0)))
}

/// Ends the lease, and clears the log if no lease is left.
pub(crate) fn end_lease(connection: &Connection, sql: &Statements, handle: i64) -> rusqlite::Result<()> {
    connection.prepare_cached(&sql.delete_lease)?.execute([handle])?;
    connection.prepare_cached(&sql.clear_unwatched_log)?.execute([])?;
    Ok(())
}

/// One page of the log.
#[derive(Debug, Default)]
pub(crate) struct LogPage {
    /// The keys that other handles changed.
    pub(crate) keys: Vec<Key>,
    /// The last sequence number of the page, if it has any.
    pub(crate) last: Option<i64>,
    /// True if a change before `last` was pruned or cannot be read.
    pub(crate) has_gap: bool,
    /// True if the log may have more changes.
    pub(crate) is_full: bool,
}

/// Reads the changes after the sequence number `seen`.
pub(crate) fn read(connection: &Connection, sql: &Statements, handle: i64, seen: i64) -> rusqlite::Result<LogPage> {
    let mut statement = connection.prepare_cached(&sql.changes_after)?;
    let mut rows = statement.query([seen, PAGE])?;
    let (mut page, mut count) = (LogPage::default(), 0);
    while let Some(row) = rows.next()? {
        let (sequence, origin): (i64, i64) = (row.get(0)?, row.get(2)?);
        // Sequence numbers have no holes: they are assigned inside the one write transaction, and a rollback returns
        // them.
        page.has_gap |= sequence != page.last.unwrap_or(seen) + 1;
        match row.get_ref(1)?.as_str().map(Key::parse_stored) {
            _ if origin == handle => {}
            Ok(Ok(key)) => page.keys.push(key),
            _ => page.has_gap = true,
        }
        page.last = Some(sequence);
        count += 1;
    }
    page.is_full = count == PAGE;
    Ok(page)
}
