//! Reading the change log.

use kv_core::{GapReason, Moment};
use rusqlite::Connection;

use crate::change_log;
use crate::connection::DatabaseFile;
use crate::statement::Statements;
use crate::watchers::{Lease, Watchers};

/// The result of one poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Poll {
    /// The hub knows every change that was visible before this moment; `None` if a failed commit may still become
    /// visible.
    Complete(Option<Moment>),
    /// The row of the lease was deleted, so other handles do not log their changes.
    LeaseDeleted,
    /// The row of a new lease is not committed yet.
    LeasePending,
    /// The path does not lead to the file that the writer has open, so reads may not find what this log reports.
    Replaced,
    /// The file cannot be read.
    Failed,
}

/// Reads the change log with a separate connection. The reader needs the same connection every time, because `PRAGMA
/// data_version` of a connection changes when another connection has written.
#[derive(Debug, Default)]
pub(crate) struct LogReader {
    connection: Option<Connection>,
    /// The lease and the data version at the last complete read; `None` if the log must be read in any case.
    read_at: Option<(Lease, i64)>,
    /// The lease under which the log is read.
    lease: Option<Lease>,
    /// True if the row of `lease` was found before.
    was_found: bool,
    /// The sequence number of the last change that was read.
    seen: i64,
}

impl LogReader {
    /// Notifies the hub of new changes. After a failure the next poll opens a new connection and reads the same
    /// changes, which are still in the log.
    pub(crate) fn poll(
        &mut self,
        lease: Lease,
        watchers: &Watchers,
        database: &DatabaseFile,
        sql: &Statements,
    ) -> Poll {
        if self.lease.replace(lease) != Some(lease) {
            (self.seen, self.was_found) = (lease.after, false);
        }
        if self.connection.is_none() {
            self.read_at = None;
        }
        // Before the file is opened, so that a file that has replaced it is not touched.
        if database.check_in_place().is_err() {
            return Poll::Replaced;
        }
        let connection = self.connection.take().map_or_else(|| database.open_reader(), Ok);
        let Ok(connection) = connection else { return Poll::Failed };
        let read = self.read(lease, &connection, watchers, sql);
        // After the read: the file was in place at the moment that the read proves.
        if database.check_in_place().is_err() {
            return Poll::Replaced;
        }
        match read {
            Ok(poll) => {
                self.connection = Some(connection);
                poll
            }
            Err(_) => Poll::Failed,
        }
    }

    fn read(
        &mut self,
        lease: Lease,
        connection: &Connection,
        watchers: &Watchers,
        sql: &Statements,
    ) -> rusqlite::Result<Poll> {
        // Taken first: the read sees every change that was visible before this moment.
        let as_of = watchers.reported_until();
        let version = connection.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))?;
        if self.read_at != Some((lease, version)) {
            // One transaction, so that the row of the lease and the changes are of the same moment. If the row is there,
            // every handle has logged its changes until then. This holds whatever the clocks of the processes show.
            let snapshot = connection.unchecked_transaction()?;
            if !change_log::has_lease(&snapshot, sql, watchers.handle_id)? {
                return Ok(if self.was_found { Poll::LeaseDeleted } else { Poll::LeasePending });
            }
            self.was_found = true;
            while self.notify_page(&snapshot, watchers, sql)? {}
            self.read_at = Some((lease, version));
        }
        Ok(Poll::Complete(as_of))
    }

    /// Notifies the hub of one page of changes, and returns true if the log may have more changes.
    fn notify_page(
        &mut self,
        connection: &Connection,
        watchers: &Watchers,
        sql: &Statements,
    ) -> rusqlite::Result<bool> {
        let page = change_log::read(connection, sql, watchers.handle_id, self.seen)?;
        if page.has_gap {
            watchers.hub.gap(GapReason::Lagged);
        }
        for key in &page.keys {
            watchers.hub.notify(key);
        }
        self.seen = page.last.unwrap_or(self.seen);
        Ok(page.is_full)
    }
}
