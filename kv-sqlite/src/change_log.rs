//! The change log, a table from which watchers read the keys that other handles have changed.
//!
//! A handle with watchers has a lease: a row in the table of leases. A writer that finds the lease of another handle
//! logs the keys that it changes, in the same transaction. If there is no lease, the only cost for a writer is one
//! query of an empty table per batch.
//!
//! A lease expires, so that writers stop logging after a process with watchers was killed. An expired lease ends only
//! when a writer deletes its row. A handle that finds its row missing reports a gap to its watchers. Therefore the
//! clocks of two processes may differ.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use kv_core::{Clock, Key, SystemClock};
use rusqlite::{Connection, OptionalExtension, params};

use crate::statement::Statements;

/// The time after which a lease expires unless it is renewed.
pub(crate) const LEASE: Duration = Duration::from_secs(30);

/// The maximum number of changes in the log. A watcher that is more changes behind gets a gap.
pub(crate) const MAX_CHANGES: i64 = 10_000;

/// The maximum number of changes that one statement reads.
const MAX_PAGE_CHANGES: i64 = 1_000;

/// Returns the system's time after a duration, in milliseconds since the Unix epoch.
///
/// Leases do not use the store's clock, because a test may stop that clock while processes start and end.
fn millis_after(duration: Duration) -> i64 {
    let moment = SystemClock.now().checked_add(duration).unwrap_or(SystemTime::UNIX_EPOCH);
    let since = moment.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// True if a handle other than this handle has a lease. In an open transaction, this function also deletes expired
/// leases.
pub(crate) fn is_watched(connection: &Connection, sql: &Statements, handle_id: i64) -> rusqlite::Result<bool> {
    let other_leases = || {
        connection
            .prepare_cached(&sql.other_leases)?
            .query_row([handle_id], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Option<i64>>(1)?)))
    };
    let now = millis_after(Duration::ZERO);
    match other_leases()? {
        (0, _) => Ok(false),
        (_, Some(first_expiry)) if first_expiry <= now && !connection.is_autocommit() => {
            connection.prepare_cached(&sql.expire_leases)?.execute([handle_id, now])?;
            connection.prepare_cached(&sql.clear_unwatched_log)?.execute([])?;
            Ok(other_leases()?.0 > 0)
        }
        _ => Ok(true),
    }
}

/// Logs each of the keys once, and deletes the oldest changes if the log has more than [`MAX_CHANGES`].
pub(crate) fn log(connection: &Connection, sql: &Statements, handle_id: i64, keys: &[Key]) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(&sql.log_change)?;
    let mut logged = HashSet::new();
    for key in keys.iter().filter(|key| logged.insert(*key)) {
        statement.execute(params![key.as_str(), handle_id])?;
    }
    connection.prepare_cached(&sql.prune_changes)?.execute([connection.last_insert_rowid() - MAX_CHANGES])?;
    Ok(())
}

/// Renews the lease of this handle. Returns false if its row is missing.
pub(crate) fn renew_lease(connection: &Connection, sql: &Statements, handle_id: i64) -> rusqlite::Result<bool> {
    let expires = millis_after(LEASE);
    Ok(connection.prepare_cached(&sql.renew_lease)?.execute([handle_id, expires])? > 0)
}

/// Inserts the row of a new lease of this handle.
pub(crate) fn insert_lease(connection: &Connection, sql: &Statements, handle_id: i64) -> rusqlite::Result<()> {
    connection.prepare_cached(&sql.insert_lease)?.execute([handle_id, millis_after(LEASE)])?;
    Ok(())
}

/// True if the row of this handle's lease exists. As long as it exists, other handles log their changes, even if it has
/// expired.
pub(crate) fn has_lease(connection: &Connection, sql: &Statements, handle_id: i64) -> rusqlite::Result<bool> {
    connection.prepare_cached(&sql.has_lease)?.exists([handle_id])
}

/// Returns the sequence number of the last change that was ever logged.
pub(crate) fn last_change(connection: &Connection, sql: &Statements) -> rusqlite::Result<i64> {
    let last = connection.prepare_cached(&sql.last_change)?.query_row([], |row| row.get(0)).optional()?;
    Ok(last.unwrap_or(0))
}

/// Ends the lease of this handle, and clears the log if no lease is left.
pub(crate) fn end_lease(connection: &Connection, sql: &Statements, handle_id: i64) -> rusqlite::Result<()> {
    connection.prepare_cached(&sql.delete_lease)?.execute([handle_id])?;
    connection.prepare_cached(&sql.clear_unwatched_log)?.execute([])?;
    Ok(())
}

/// Some consecutive changes of the log.
#[derive(Debug, Default)]
pub(crate) struct LogPage {
    /// The keys that other handles changed.
    pub(crate) keys: Vec<Key>,
    /// The last sequence number of the page; `None` if the page has no changes.
    pub(crate) last: Option<i64>,
    /// True if a change before `last` was deleted from the log or cannot be read.
    pub(crate) has_gap: bool,
    /// True if the log may have more changes.
    pub(crate) is_full: bool,
}

/// Reads a page of the changes after the sequence number `seen`.
pub(crate) fn read(connection: &Connection, sql: &Statements, handle_id: i64, seen: i64) -> rusqlite::Result<LogPage> {
    let mut statement = connection.prepare_cached(&sql.changes_after)?;
    let mut rows = statement.query([seen, MAX_PAGE_CHANGES])?;
    let (mut page, mut count) = (LogPage::default(), 0);
    while let Some(row) = rows.next()? {
        let (sequence, origin): (i64, i64) = (row.get(0)?, row.get(2)?);
        // A missing number means that a change was deleted. Otherwise the numbers have no holes: only one write
        // transaction can be open, and a rollback takes its numbers back.
        page.has_gap |= sequence != page.last.unwrap_or(seen) + 1;
        match row.get_ref(1)?.as_str().map(Key::parse_stored) {
            _ if origin == handle_id => {}
            Ok(Ok(key)) => page.keys.push(key),
            _ => page.has_gap = true,
        }
        page.last = Some(sequence);
        count += 1;
    }
    page.is_full = count == MAX_PAGE_CHANGES;
    Ok(page)
}
