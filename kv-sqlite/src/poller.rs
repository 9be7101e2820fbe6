//! The poller: a task that reads the changes of other handles from the change log, and renews the lease.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kv_core::{Clock, GapReason, Result, SystemClock};
use rusqlite::Connection;

use crate::change_log::{self, LEASE};
use crate::connection::DatabaseFile;
use crate::error::Failure;
use crate::statement::Statements;
use crate::watchers::{Lease, Watchers};
use crate::writer::job::Write;
use crate::writer::queue::WeakQueue;
use crate::writer::rows::Rows;

/// The interval at which a handle with watchers checks for changes of other handles.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The time for which the lease is kept after the last watcher has ended, so that the next watcher can use the same
/// lease. The same time is the delay before a failed renewal is retried.
const LINGER: Duration = Duration::from_secs(1);

/// Renews the lease of the handle, or ends it if the handle has no watchers.
#[derive(Debug)]
struct RenewLease(Watchers);

#[derive(Debug)]
enum Renewal {
    Renewed,
    /// The row of the lease was missing, so changes may be missing in the log. The new lease covers the changes after
    /// this sequence number.
    Restarted {
        after: i64,
    },
    Ended,
}

impl Write for RenewLease {
    type Outcome = Renewal;

    fn apply(&self, rows: &Rows<'_>) -> Result<Renewal, Failure> {
        // The check is in the writer, because the writer also runs `StartWatch` of every new watcher. Therefore a
        // watcher that has just subscribed is either found here, or takes a new lease afterwards.
        if !self.0.hub.has_subscribers() {
            change_log::end_lease(rows.connection, rows.sql, self.0.handle_id)?;
            return Ok(Renewal::Ended);
        }
        Ok(match change_log::take_lease(rows.connection, rows.sql, self.0.handle_id)? {
            None => Renewal::Renewed,
            Some(after) => Renewal::Restarted { after },
        })
    }

    fn committed(&self, outcome: &Renewal) {
        match outcome {
            Renewal::Renewed => {}
            Renewal::Restarted { after } => {
                self.0.hub.gap(GapReason::Reconnected);
                self.0.start_lease(*after);
            }
            Renewal::Ended => {
                self.0.lease.send_replace(None);
            }
        }
    }
}

/// Notifies the hub of changes of other handles while there is a lease, until the store is dropped.
pub(crate) async fn run_poller(watchers: Watchers, database: DatabaseFile, queue: WeakQueue, sql: Arc<Statements>) {
    let mut lease = watchers.lease.subscribe();
    loop {
        match lease.wait_for(Option::is_some).await.map(|lease| *lease) {
            Ok(Some(current)) => poll(&watchers, &database, &queue, &sql, current).await,
            _ => return,
        }
        if queue.upgrade().is_none() {
            return;
        }
    }
}

/// Polls the change log and renews the lease, until the lease ends.
async fn poll(
    watchers: &Watchers,
    database: &DatabaseFile,
    queue: &WeakQueue,
    sql: &Arc<Statements>,
    mut lease: Lease,
) {
    let mut reader = LogReader { connection: None, data_version: None, seen: lease.after };
    let mut renew_at = SystemClock.now() + LEASE / 3;
    loop {
        SystemClock.sleep(POLL_INTERVAL).await;
        match *watchers.lease.borrow() {
            None => return,
            Some(current) if current != lease => {
                lease = current;
                reader.seen = lease.after;
                reader.data_version = None;
            }
            Some(_) => {}
        }
        // The read runs on a separate thread, because a disk that does not respond must not stop the runtime's timers.
        let (shared, database, sql) = (watchers.clone(), database.clone(), Arc::clone(sql));
        let read = tokio::task::spawn_blocking(move || reader.notify_changes(&shared, &database, &sql));
        let Ok(returned) = read.await else { return };
        reader = returned;
        let now = SystemClock.now();
        if !watchers.hub.has_subscribers() {
            renew_at = renew_at.min(now + LINGER);
        }
        if now >= renew_at || is_beyond_lease(renew_at, now) {
            let Some(queue) = queue.upgrade() else { return };
            // A failed renewal is retried after `LINGER`. If the row expires before a retry succeeds, the watchers get
            // a gap.
            let renewed = queue.call(RenewLease(watchers.clone())).await;
            renew_at = now + if renewed.is_ok() { LEASE / 3 } else { LINGER };
        }
    }
}

/// True if a moment is further away than the duration of a lease. Then the system's clock was set back, and a renewal
/// at that moment would be too late.
fn is_beyond_lease(moment: SystemTime, now: SystemTime) -> bool {
    moment.duration_since(now).is_ok_and(|left| left > LEASE)
}

/// Reads the change log with a separate connection. The reader needs the same connection every time, because `PRAGMA
/// data_version` of a connection changes when another connection has written.
struct LogReader {
    connection: Option<Connection>,
    /// The data version at the last read of the log; `None` if the log must be read in any case.
    data_version: Option<i64>,
    /// The sequence number of the last change that was read.
    seen: i64,
}

impl LogReader {
    /// Notifies the hub of new changes. After a failure the next poll opens a new connection and reads the same
    /// changes, which are still in the log.
    fn notify_changes(mut self, watchers: &Watchers, database: &DatabaseFile, sql: &Statements) -> Self {
        let connection = self.connection.take().map_or_else(
            || {
                self.data_version = None;
                database.open_reader()
            },
            Ok,
        );
        self.connection = connection.and_then(|connection| self.read(connection, watchers, sql)).ok();
        self
    }

    fn read(&mut self, connection: Connection, watchers: &Watchers, sql: &Statements) -> rusqlite::Result<Connection> {
        let version = connection.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))?;
        if self.data_version != Some(version) {
            while self.notify_page(&connection, watchers, sql)? {}
            self.data_version = Some(version);
        }
        Ok(connection)
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
