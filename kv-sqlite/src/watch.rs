//! Watching: the handles' own writes at once, those of other processes from the table of changes.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kv_core::hub::{Changes, Hub};
use kv_core::{Clock, GapReason, Result, SystemClock};
use rusqlite::Connection;
use tokio::sync::watch;

use crate::batch::Batch;
use crate::changes::{self, LEASE};
use crate::error::Abort;
use crate::queue::WeakQueue;
use crate::schema::Place;
use crate::statement::Statements;
use crate::write::Write;

/// How often a handle with watchers asks whether another process has written.
const POLL: Duration = Duration::from_millis(20);

/// How long a lease is kept after the last watcher has gone, so that the next one finds it.
const LINGER: Duration = Duration::from_secs(1);

/// From which sequence on changes count; each lease that is taken anew has another number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lease {
    number: u64,
    from: i64,
}

/// What a handle's watchers share.
#[derive(Debug, Clone)]
pub(crate) struct Watchers {
    pub(crate) hub: Hub<Changes>,
    /// Tells this handle from all others on the file.
    pub(crate) handle: i64,
    pub(crate) lease: Arc<watch::Sender<Option<Lease>>>,
    /// Whether there are other processes to hear of.
    pub(crate) is_shared: bool,
}

impl Watchers {
    pub(crate) fn new(handle: i64, is_shared: bool) -> Self {
        Self { hub: Hub::new(), handle, lease: Arc::new(watch::Sender::new(None)), is_shared }
    }

    fn take(&self, from: i64) {
        self.lease.send_modify(|lease| {
            let number = lease.map_or(0, |lease| lease.number + 1);
            *lease = Some(Lease { number, from });
        });
    }
}

/// Makes a watch live. It goes through the writer, so that every write acknowledged later is told after it.
#[derive(Debug)]
pub(crate) struct Register(pub(crate) Watchers);

impl Write for Register {
    type Outcome = Option<i64>;

    fn apply(&self, batch: &Batch<'_>) -> Result<Option<i64>, Abort> {
        if !self.0.is_shared {
            return Ok(None);
        }
        Ok(changes::register(batch.connection, batch.sql, self.0.handle)?)
    }

    fn committed(&self, outcome: &Option<i64>) {
        if let Some(from) = outcome {
            self.0.take(*from);
        }
    }
}

/// Renews the lease, or gives it up where nobody watches any more.
#[derive(Debug)]
struct Renew(Watchers);

#[derive(Debug)]
enum Renewed {
    Kept,
    /// The row was gone: changes since then are not logged.
    Lost {
        from: i64,
    },
    GivenUp,
}

impl Write for Renew {
    type Outcome = Renewed;

    fn apply(&self, batch: &Batch<'_>) -> Result<Renewed, Abort> {
        // Asked inside the writer, through which every watcher comes after it subscribed.
        if !self.0.hub.has_subscribers() {
            changes::deregister(batch.connection, batch.sql, self.0.handle)?;
            return Ok(Renewed::GivenUp);
        }
        Ok(match changes::register(batch.connection, batch.sql, self.0.handle)? {
            None => Renewed::Kept,
            Some(from) => Renewed::Lost { from },
        })
    }

    fn committed(&self, outcome: &Renewed) {
        match outcome {
            Renewed::Kept => {}
            Renewed::Lost { from } => {
                self.0.hub.gap(GapReason::Reconnected);
                self.0.take(*from);
            }
            Renewed::GivenUp => {
                self.0.lease.send_replace(None);
            }
        }
    }
}

/// Tells the hub what other processes change, until the store is dropped.
pub(crate) async fn keep_polling(watchers: Watchers, place: Place, queue: WeakQueue, sql: Arc<Statements>) {
    let mut lease = watchers.lease.subscribe();
    loop {
        match lease.wait_for(Option::is_some).await.map(|lease| *lease) {
            Ok(Some(current)) => poll(&watchers, &place, &queue, &sql, current).await,
            _ => return,
        }
        if queue.upgrade().is_none() {
            return;
        }
    }
}

/// Polls for as long as there is a lease.
async fn poll(watchers: &Watchers, place: &Place, queue: &WeakQueue, sql: &Arc<Statements>, mut lease: Lease) {
    let mut reading = Reading { connection: None, version: None, seen: lease.from };
    let mut renew_at = SystemClock.now() + LEASE / 3;
    loop {
        SystemClock.sleep(POLL).await;
        match *watchers.lease.borrow() {
            None => return,
            Some(current) if current != lease => {
                lease = current;
                reading.seen = lease.from;
                reading.version = None;
            }
            Some(_) => {}
        }
        // Away from the timers, which go on where the disk does not answer.
        let (watchers_too, place, sql) = (watchers.clone(), place.clone(), Arc::clone(sql));
        let told = tokio::task::spawn_blocking(move || reading.tell(&watchers_too, &place, &sql));
        let Ok(back) = told.await else { return };
        reading = back;
        let now = SystemClock.now();
        if !watchers.hub.has_subscribers() {
            renew_at = renew_at.min(now + LINGER);
        }
        if now >= renew_at || is_far(renew_at, now) {
            let Some(queue) = queue.upgrade() else { return };
            // One that fails is tried again soon; where the row was removed meanwhile, the watchers are told.
            let renewed = queue.call(Renew(watchers.clone())).await;
            renew_at = now + if renewed.is_ok() { LEASE / 3 } else { LINGER };
        }
    }
}

/// Whether the system's clock was set back, so that the moment would be waited for too long.
fn is_far(moment: SystemTime, now: SystemTime) -> bool {
    moment.duration_since(now).is_ok_and(|left| left > LEASE)
}

/// The poller's own connection: `data_version` says whether others have written since it was asked by the same connection.
struct Reading {
    connection: Option<Connection>,
    version: Option<i64>,
    seen: i64,
}

impl Reading {
    /// Tells what is new. Where that fails, the next round opens the file again; what was logged waits there.
    fn tell(mut self, watchers: &Watchers, place: &Place, sql: &Statements) -> Self {
        let connection = self.connection.take().map_or_else(
            || {
                self.version = None;
                place.open_reader()
            },
            Ok,
        );
        self.connection = connection.and_then(|connection| self.look(connection, watchers, sql)).ok();
        self
    }

    fn look(&mut self, connection: Connection, watchers: &Watchers, sql: &Statements) -> rusqlite::Result<Connection> {
        let version = connection.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))?;
        if self.version != Some(version) {
            while self.tell_page(&connection, watchers, sql)? {}
            self.version = Some(version);
        }
        Ok(connection)
    }

    fn tell_page(&mut self, connection: &Connection, watchers: &Watchers, sql: &Statements) -> rusqlite::Result<bool> {
        let logged = changes::read(connection, sql, watchers.handle, self.seen)?;
        if logged.has_gap {
            watchers.hub.gap(GapReason::Lagged);
        }
        for key in &logged.keys {
            watchers.hub.notify(key);
        }
        self.seen = logged.last.unwrap_or(self.seen);
        Ok(logged.is_full)
    }
}
