//! The poller: a task that reads the changes of other handles from the change log, and renews the lease.
//!
//! The poller is also the heartbeat of the sinks (clause W-5): a read of the file that finds the row of the lease proves
//! that all changes from before the read are known.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kv_core::{Clock, GapReason, Moment, Result, SystemClock};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::change_log::{self, LEASE};
use crate::connection::DatabaseFile;
use crate::error::Failure;
use crate::log_reader::{LogReader, Poll};
use crate::statement::Statements;
use crate::watch::take_lease;
use crate::watchers::{Lease, Watchers};
use crate::writer::job::Write;
use crate::writer::queue::WeakQueue;
use crate::writer::rows::Rows;

/// The longest time for which a sink of a store in a file does not learn that changes may be missing.
pub(crate) const WATCH_LOSS_BOUND: Duration = Duration::from_secs(2);

/// The age of the last answered poll at which the sinks learn that changes may be missing. The rest of
/// [`WATCH_LOSS_BOUND`] is the time in which the poller must notice the age.
const MAX_AGE: Duration = Duration::from_millis(1_500);

/// The interval at which a handle with watchers checks for changes of other handles.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The time for which the lease is kept after the last watcher has ended, so that the next watcher can use the same
/// lease. The same time is the delay before a failed renewal is retried.
const LINGER: Duration = Duration::from_secs(1);

/// Renews the lease of the handle, or ends it if the handle has no watchers.
#[derive(Debug)]
struct RenewLease(Watchers);

impl Write for RenewLease {
    type Outcome = ();

    fn apply(&self, rows: &Rows<'_>) -> Result<(), Failure> {
        // The check is in the writer, because the writer also runs `StartWatch` of every new watcher. Therefore a
        // watcher that has just subscribed is either found here, or takes a new lease afterwards.
        if self.0.hub.has_subscribers() {
            return take_lease(&self.0, rows);
        }
        self.0.lease.send_replace(None);
        change_log::end_lease(rows.connection, rows.sql, self.0.handle_id)?;
        Ok(())
    }
}

/// Notifies the hub of changes of other handles while there is a lease, until the store is dropped.
pub(crate) async fn run_poller(watchers: Watchers, database: DatabaseFile, queue: WeakQueue, sql: Arc<Statements>) {
    let mut lease = watchers.lease.subscribe();
    while lease.wait_for(Option::is_some).await.is_ok() {
        let mut poller = Poller {
            watchers: watchers.clone(),
            database: database.clone(),
            sql: Arc::clone(&sql),
            reader: LogReader::default(),
            as_of: Moment::now(),
            renewal: Renewal { due: SystemClock.now() + LEASE / 3, running: None },
        };
        poller.run(&queue).await;
        if queue.upgrade().is_none() {
            return;
        }
    }
}

/// The state of the poller while there is a lease.
struct Poller {
    watchers: Watchers,
    database: DatabaseFile,
    sql: Arc<Statements>,
    reader: LogReader,
    /// The moment before which the hub knows every change.
    as_of: Moment,
    renewal: Renewal,
}

impl Poller {
    /// Polls the change log and renews the lease, until the lease ends.
    async fn run(&mut self, queue: &WeakQueue) {
        loop {
            SystemClock.sleep(POLL_INTERVAL).await;
            let Some(lease) = *self.watchers.lease.borrow() else { return };
            match self.poll(lease).await {
                Some(Poll::Complete(Some(as_of))) => {
                    if self.watchers.confirm(lease, as_of) {
                        self.as_of = as_of;
                    }
                }
                Some(Poll::LeaseDeleted) => {
                    let is_new = self.watchers.suspend(lease, GapReason::NotReported);
                    self.renewal.expedite(if is_new { Duration::ZERO } else { LINGER });
                }
                // The loss ends in a gap when the file is in place again.
                Some(Poll::Replaced) => {
                    self.watchers.suspend(lease, GapReason::ServerChanged);
                }
                // If the commit fails, the renewal takes a new lease.
                Some(Poll::LeasePending) => self.renewal.expedite(LINGER),
                Some(Poll::Complete(None) | Poll::Failed) => {}
                None => return,
            }
            self.check_age(lease);
            if !self.renewal.advance(&self.watchers, queue).await {
                return;
            }
        }
    }

    /// Reads the change log; `None` if the store's runtime has ended.
    async fn poll(&mut self, lease: Lease) -> Option<Poll> {
        // The read runs on a separate thread, because a disk that does not respond must not stop the runtime's timers.
        let (watchers, database, sql) = (self.watchers.clone(), self.database.clone(), Arc::clone(&self.sql));
        let mut reader = std::mem::take(&mut self.reader);
        let mut reading = tokio::task::spawn_blocking(move || {
            let poll = reader.poll(lease, &watchers, &database, &sql);
            (reader, poll)
        });
        loop {
            match timeout(POLL_INTERVAL, &mut reading).await {
                Ok(done) => {
                    let (reader, poll) = done.ok()?;
                    self.reader = reader;
                    return Some(poll);
                }
                Err(_) => self.check_age(lease),
            }
        }
    }

    /// Announces a loss if the last answered poll is too old. Without sinks nothing is announced, because a stream of
    /// events gets every change later.
    fn check_age(&self, lease: Lease) {
        if self.watchers.has_sinks() && self.as_of.elapsed() >= MAX_AGE {
            self.watchers.suspend(lease, GapReason::Unanswered);
        }
    }
}

/// The renewals of the lease. A renewal may wait long for the lock of another process, so polling continues meanwhile.
#[derive(Debug)]
struct Renewal {
    due: SystemTime,
    running: Option<JoinHandle<bool>>,
}

impl Renewal {
    /// Makes a renewal due within this time.
    fn expedite(&mut self, within: Duration) {
        self.due = self.due.min(SystemClock.now() + within);
    }

    /// Starts a renewal if it is due. Returns false if the store was dropped.
    async fn advance(&mut self, watchers: &Watchers, queue: &WeakQueue) -> bool {
        let now = SystemClock.now();
        if let Some(running) = self.running.take_if(|running| running.is_finished()) {
            // A failed renewal is retried after `LINGER`. If the row is deleted before a retry succeeds, the watchers
            // get a gap.
            let is_renewed = running.await.unwrap_or(false);
            self.due = now + if is_renewed { LEASE / 3 } else { LINGER };
        }
        if !watchers.hub.has_subscribers() {
            self.due = self.due.min(now + LINGER);
        }
        if self.running.is_none() && (now >= self.due || is_beyond_lease(self.due, now)) {
            let Some(queue) = queue.upgrade() else { return false };
            let renew = RenewLease(watchers.clone());
            self.running = Some(tokio::spawn(async move { queue.call(renew).await.is_ok() }));
        }
        true
    }
}

/// True if a moment is further away than the duration of a lease. Then the system's clock was set back, and a renewal
/// at that moment would be too late.
fn is_beyond_lease(moment: SystemTime, now: SystemTime) -> bool {
    moment.duration_since(now).is_ok_and(|left| left > LEASE)
}
