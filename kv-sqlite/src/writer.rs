//! The one thread that writes. It takes all the writes that wait into one transaction, so that one sync serves them all.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, MutexGuard, PoisonError};

use kv_core::{Clock, Error, Key, Result, Version};
use rusqlite::{Connection, ffi};
use tokio::sync::{mpsc, oneshot, watch};

use crate::batch::Batch;
use crate::board::Letterbox;
use crate::changes;
use crate::config::SyncMode;
use crate::error::{Stage, classify};
use crate::queue::{Job, Pending};
use crate::reader::{Readers, SharedConnection};
use crate::relied::Relied;
use crate::schema::Place;
use crate::statement::Statements;
use crate::watch::Watchers;

/// A batch ends with this many writes.
const MOST_WRITES: usize = 1_024;

/// A batch ends with this many bytes of values.
const MOST_BYTES: usize = 8 << 20;

/// What the writer shares with the handles.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) connection: SharedConnection,
    pub(crate) jobs: mpsc::Receiver<Job>,
    pub(crate) sql: Arc<Statements>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) watchers: Watchers,
    pub(crate) letters: Arc<Letterbox>,
    pub(crate) relied: Arc<Relied>,
    pub(crate) readers: Arc<Readers>,
    pub(crate) place: Option<Place>,
    pub(crate) sync: SyncMode,
    pub(crate) is_closed: Arc<AtomicBool>,
    pub(crate) ended: watch::Sender<bool>,
}

type Jobs = Vec<Box<dyn Pending>>;

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
        let (mut writes, mut flushes, mut bytes) = (Jobs::new(), Vec::new(), 0);
        let mut next = Some(first);
        let mut is_last = false;
        while let Some(job) = next {
            match job {
                Job::Write(write) => {
                    bytes += write.bytes();
                    writes.push(write);
                }
                Job::Flush(reply) => flushes.push(reply),
                Job::Close => is_last = true,
            }
            let is_full = is_last || writes.len() >= MOST_WRITES || bytes >= MOST_BYTES;
            next = if is_full { None } else { self.jobs.try_recv().ok() };
        }
        writes.retain(|write| write.claim());
        self.write(writes);
        self.flush(flushes);
        is_last
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        // A panic in the middle of a transaction is undone by the rollback that begins the next batch.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a batch. Where it fails before its commit, each of its writes is tried by itself, so that one that cannot
    /// be written does not fail the others.
    fn write(&self, mut writes: Jobs) {
        if writes.is_empty() {
            return;
        }
        match self.transact(&mut writes) {
            Ok(()) => writes.into_iter().for_each(Pending::committed),
            Err((_, Stage::Before)) if writes.len() > 1 => {
                for write in writes {
                    self.write(vec![write]);
                }
            }
            Err((error, stage)) => {
                let mut error = Some(error);
                for write in writes {
                    // The driver's error goes to the first; it cannot be copied.
                    let mut make = |version: Option<Version>| match error.take() {
                        Some(error) => classify(error, stage, version),
                        None => Error::indeterminate(version, "the commit of the batch failed"),
                    };
                    write.failed(&mut make);
                }
            }
        }
    }

    fn transact(&self, writes: &mut Jobs) -> Result<(), (rusqlite::Error, Stage)> {
        let connection = self.connection();
        let outcome = self.try_transact(&connection, writes);
        if outcome.is_err() && !connection.is_autocommit() {
            // Where even this fails, SQLite has rolled back by itself.
            let _ = connection.execute_batch("ROLLBACK");
        }
        drop(connection);
        self.relied.end();
        let changed = outcome?;
        for key in &changed {
            self.watchers.hub.tell(key);
        }
        Ok(())
    }

    fn try_transact(&self, connection: &Connection, writes: &mut Jobs) -> Result<Vec<Key>, (rusqlite::Error, Stage)> {
        let before = |error| (error, Stage::Before);
        let run = |sql: &str| connection.prepare_cached(sql)?.execute([]).map(|_| ());
        if self.place.as_ref().is_some_and(|place| !place.is_there()) {
            let moved = ffi::Error::new(ffi::SQLITE_READONLY_DBMOVED);
            return Err(before(rusqlite::Error::SqliteFailure(moved, None)));
        }
        run("BEGIN IMMEDIATE").map_err(before)?;
        let batch = Batch::new(connection, &self.sql, &*self.clock, &self.relied);
        for write in writes {
            write.apply(&batch).map_err(before)?;
        }
        let changed = batch.into_changed();
        let is_watched = self.log_where_watched(connection, &changed).map_err(before)?;
        run("COMMIT").map_err(|error| (error, Stage::Commit))?;
        // A watcher in another process that came between our look and our commit has not seen these changes logged, and
        // must hear of what is acknowledged from now on.
        if !is_watched && self.is_watched(connection, &changed).unwrap_or(false) {
            let _ = run("BEGIN IMMEDIATE")
                .and_then(|()| changes::log(connection, &self.sql, self.watchers.handle, &changed))
                .and_then(|()| run("COMMIT"));
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
            watchers,
            letters,
            relied: _,
            readers,
            place: _,
            sync: _,
            is_closed: _,
            ended,
        } = self;
        let had_lease = watchers.lease.send_replace(None).is_some();
        watchers.hub.close();
        letters.close();
        readers.close();
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

/// Commits a page that does not change, with a sync.
fn sync_log(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "synchronous", SyncMode::EveryCommit.pragma())?;
    let layout: i32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    connection.pragma_update(None, "user_version", layout)
}
