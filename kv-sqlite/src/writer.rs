//! The one thread that writes. It takes all the writes that wait into one transaction, so that one sync serves them all.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use kv_core::{Clock, Error, Key, Result};
use rusqlite::{Connection, ffi};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::batch::Batch;
use crate::board::Letterbox;
use crate::changes;
use crate::config::SyncMode;
use crate::error::{Stage, classify, copied, is_busy};
use crate::keeper::Keeper;
use crate::queue::{Job, Pending};
use crate::reader::{Readers, SharedConnection};
use crate::relied::Relied;
use crate::schema::Place;
use crate::statement::Statements;
use crate::turn::Turn;
use crate::watch::Watchers;

/// A batch ends with this many writes.
const MAX_WRITES: usize = 1_024;

/// A batch ends with this many bytes of values.
const MAX_BYTES: usize = 8 << 20;

/// How long to wait before the lock of another process is tried again.
const PAUSE: Duration = Duration::from_millis(1);

/// How often a writer that waits for its turn looks whether anybody still waits for what it would write.
const TURN_CHECK: Duration = Duration::from_secs(1);

/// How often a writer lets other threads go first, to have more writes in one batch.
const MAX_YIELDS: u32 = 64;

/// What the writer shares with the handles.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) connection: SharedConnection,
    pub(crate) jobs: mpsc::Receiver<Job>,
    pub(crate) sql: Arc<Statements>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) keeper: Arc<Keeper>,
    pub(crate) watchers: Watchers,
    pub(crate) letters: Arc<Letterbox>,
    pub(crate) relied: Arc<Relied>,
    pub(crate) readers: Arc<Readers>,
    pub(crate) place: Option<Place>,
    pub(crate) sync: SyncMode,
    pub(crate) is_closed: Arc<AtomicBool>,
    /// How many writes the last batch had.
    pub(crate) last_batch: usize,
    pub(crate) ended: watch::Sender<bool>,
}

type Jobs = Vec<Box<dyn Pending>>;

/// What was waiting.
#[derive(Default)]
struct Gathered {
    writes: Jobs,
    flushes: Vec<oneshot::Sender<Result<()>>>,
    bytes: usize,
    is_last: bool,
}

impl Gathered {
    fn add(&mut self, job: Job) {
        match job {
            Job::Write(write) => {
                self.bytes += write.bytes();
                self.writes.push(write);
            }
            Job::Flush(reply) => self.flushes.push(reply),
            Job::Close => self.is_last = true,
        }
    }

    /// Takes what waits, until the batch is full.
    fn top_up(&mut self, jobs: &mut mpsc::Receiver<Job>) {
        while !self.is_last && self.writes.len() < MAX_WRITES && self.bytes < MAX_BYTES {
            let Ok(job) = jobs.try_recv() else { return };
            self.add(job);
        }
    }
}

impl Writer {
    /// Works until the store is closed, or its last handle is dropped.
    pub(crate) fn run(mut self) {
        while let Some(first) = self.jobs.blocking_recv() {
            let is_last = self.work(first);
            if is_last || self.is_closed.load(Ordering::Acquire) {
                break;
            }
        }
        // What waits is still written; nothing new gets in.
        self.jobs.close();
        while let Ok(job) = self.jobs.try_recv() {
            self.work(job);
        }
        self.finish();
    }

    /// Does this job and what waits behind it, and tells whether the store was closed.
    fn work(&mut self, first: Job) -> bool {
        let mut batch = Gathered::default();
        batch.add(first);
        batch.top_up(&mut self.jobs);
        self.wait_for_company(&mut batch);
        self.write(&mut batch);
        self.flush(batch.flushes);
        batch.is_last
    }

    /// Lets the callers that the last batch has woken come back with their next writes, where there were more of them. Otherwise
    /// a batch is what the first of them brought, and there are twice as many syncs.
    fn wait_for_company(&mut self, batch: &mut Gathered) {
        for _ in 0..MAX_YIELDS {
            if batch.is_last || batch.writes.len() >= self.last_batch {
                break;
            }
            std::thread::yield_now();
            batch.top_up(&mut self.jobs);
        }
        self.last_batch = batch.writes.len();
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        // A panic in the middle of a transaction is undone by the rollback that begins the next batch.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what waits, when it is this handle's turn. Callers that have given up by then are not written for: nothing
    /// has begun before the lock is held, so that whoever runs out of time until then knows that nothing happened.
    fn write(&mut self, batch: &mut Gathered) {
        if batch.writes.is_empty() {
            return;
        }
        let Some(_turn) = self.wait_for_turn(&mut batch.writes) else { return };
        if let Err(error) = self.begin(&mut batch.writes) {
            batch.writes.retain(|write| write.claim());
            return fail(std::mem::take(&mut batch.writes), &error, Stage::Before);
        }
        batch.top_up(&mut self.jobs);
        batch.writes.retain(|write| write.claim());
        self.write_claimed(std::mem::take(&mut batch.writes));
    }

    /// Waits for the turn, as long as somebody waits for the outcome. In memory nobody else writes.
    fn wait_for_turn(&self, writes: &mut Jobs) -> Option<Turn> {
        let Some(place) = &self.place else { return Some(Turn::ALONE) };
        loop {
            if let Some(turn) = place.turns.wait(self.keeper.timer(), TURN_CHECK) {
                return Some(turn);
            }
            writes.retain(|write| write.is_wanted());
            if writes.is_empty() {
                return None;
            }
        }
    }

    /// Begins a transaction. SQLite's own waiting for the lock of another process is not used: it looks again at intervals
    /// of up to 100 ms, at which a busy process is seldom between two commits.
    fn begin(&self, writes: &mut Jobs) -> rusqlite::Result<()> {
        let connection = self.connection();
        let Some(place) = &self.place else { return run(&connection, "BEGIN IMMEDIATE") };
        if !place.is_there() {
            let moved = ffi::Error::new(ffi::SQLITE_READONLY_DBMOVED);
            return Err(rusqlite::Error::SqliteFailure(moved, None));
        }
        let until = Instant::now() + place.busy_timeout;
        connection.busy_timeout(Duration::ZERO)?;
        let begun = loop {
            match run(&connection, "BEGIN IMMEDIATE") {
                Err(error) if is_busy(&error) && Instant::now() < until => {
                    writes.retain(|write| write.is_wanted());
                    if writes.is_empty() {
                        break Err(error);
                    }
                    self.keeper.timer().pause(PAUSE);
                }
                begun => break begun,
            }
        };
        connection.busy_timeout(place.busy_timeout)?;
        begun
    }

    /// Writes a batch whose transaction has begun. Where it fails before its commit, each of its writes is tried by itself,
    /// so that one that cannot be written does not fail the others.
    fn write_claimed(&self, mut writes: Jobs) {
        match self.transact(&mut writes) {
            Ok(()) => writes.into_iter().for_each(Pending::committed),
            Err((_, Stage::Before)) if writes.len() > 1 => {
                for write in writes {
                    let mut single = vec![write];
                    match self.begin(&mut single) {
                        Ok(()) => self.write_claimed(single),
                        Err(error) => fail(single, &error, Stage::Before),
                    }
                }
            }
            Err((error, stage)) => fail(writes, &error, stage),
        }
    }

    fn transact(&self, writes: &mut Jobs) -> Result<(), (rusqlite::Error, Stage)> {
        let connection = self.connection();
        let outcome = self.try_transact(&connection, writes);
        if outcome.is_err() && !connection.is_autocommit() {
            // Where even this fails, SQLite has rolled back by itself.
            let _ = connection.execute_batch("ROLLBACK");
        }
        if matches!(outcome, Err((_, Stage::Commit))) {
            let _ = rewrite_a_page(&connection);
        }
        drop(connection);
        self.relied.end();
        let changed = outcome?;
        for key in &changed {
            self.watchers.hub.notify(key);
        }
        Ok(())
    }

    fn try_transact(&self, connection: &Connection, writes: &mut Jobs) -> Result<Vec<Key>, (rusqlite::Error, Stage)> {
        let before = |error| (error, Stage::Before);
        let batch = Batch::new(connection, &self.sql, &*self.clock, &self.relied);
        for write in writes {
            write.apply(&batch).map_err(before)?;
        }
        let changed = batch.into_changed();
        let is_watched = self.log_where_watched(connection, &changed).map_err(before)?;
        run(connection, "COMMIT").map_err(|error| (error, Stage::Commit))?;
        // A watcher in another process that came between our look and our commit has not seen these changes logged, and
        // must hear of what is acknowledged from now on.
        if !is_watched && self.is_watched(connection, &changed).unwrap_or(false) {
            let _ = run(connection, "BEGIN IMMEDIATE")
                .and_then(|()| changes::log(connection, &self.sql, self.watchers.handle, &changed))
                .and_then(|()| run(connection, "COMMIT"));
        }
        Ok(changed)
    }

    fn is_watched(&self, connection: &Connection, changed: &[Key]) -> rusqlite::Result<bool> {
        if changed.is_empty() || !self.watchers.is_shared {
            return Ok(false);
        }
        changes::is_watched(connection, &self.sql, self.watchers.handle)
    }

    fn log_where_watched(&self, connection: &Connection, changed: &[Key]) -> rusqlite::Result<bool> {
        let is_watched = self.is_watched(connection, changed)?;
        if is_watched {
            changes::log(connection, &self.sql, self.watchers.handle, changed)?;
        }
        Ok(is_watched)
    }

    /// Syncs the log where commits do not: a commit that does syncs all that is before it.
    fn flush(&self, flushes: Vec<oneshot::Sender<Result<()>>>) {
        if flushes.is_empty() {
            return;
        }
        let synced = match self.sync {
            SyncMode::EveryCommit => Ok(()),
            SyncMode::LosesOnPowerCut => {
                let connection = self.connection();
                let outcome = sync_log(&connection);
                let back = connection.pragma_update(None, "synchronous", self.sync.pragma());
                outcome.and(back)
            }
        };
        let mut failure = synced.err();
        let is_synced = failure.is_none();
        for reply in flushes {
            let _ = reply.send(match failure.take() {
                Some(error) => Err(classify(error, Stage::Before, None)),
                None if is_synced => Ok(()),
                None => Err(Error::unavailable("the sync failed")),
            });
        }
    }

    fn finish(self) {
        let Self {
            connection,
            jobs: _,
            sql,
            clock: _,
            keeper,
            watchers,
            letters,
            relied: _,
            readers,
            place,
            sync: _,
            is_closed: _,
            last_batch: _,
            ended,
        } = self;
        let had_lease = watchers.lease.send_replace(None).is_some();
        watchers.hub.close();
        letters.close();
        readers.close();
        let _turn = place.and_then(|place| place.turns.wait(keeper.timer(), TURN_CHECK));
        if let (true, Ok(connection)) = (watchers.is_shared, connection.lock()) {
            if had_lease {
                let _ = changes::deregister(&connection, &sql, watchers.handle);
            }
            // Copies the log back as far as readers in other processes let it.
            let _ = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        }
        drop(connection);
        ended.send_replace(true);
    }
}

/// Tells callers that their writes failed.
fn fail(writes: Jobs, error: &rusqlite::Error, stage: Stage) {
    for write in writes {
        write.failed(&mut |version| classify(copied(error), stage, version));
    }
}

fn run(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.execute([]).map(|_| ())
}

/// Commits a page that does not change, with a sync.
fn sync_log(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "synchronous", SyncMode::EveryCommit.pragma())?;
    rewrite_a_page(connection)
}

/// Commits a page that does not change.
///
/// A commit whose sync has failed is rolled back, but stands in the log, behind its end; whoever recovers the log before the
/// next commit takes it for one that came through, although calls have seen that it did not. This one takes its place there,
/// whether or not it can be synced.
fn rewrite_a_page(connection: &Connection) -> rusqlite::Result<()> {
    let layout: i32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    connection.pragma_update(None, "user_version", layout)
}
