//! The commit of a batch.

use std::time::Duration;

use kv_core::adapter::Effect;
use kv_core::{Error, Key, Result, Version};
use rusqlite::{Connection, ffi};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::change_log;
use crate::config::SyncMode;
use crate::error::{classify, copy, is_busy, read};
use crate::write_lock::WriteGuard;
use crate::writer::gather::Batch;
use crate::writer::job::PendingWrite;
use crate::writer::rows::Rows;
use crate::writer::worker::{LOCK_WAIT, Writer};

/// The interval between attempts to take SQLite's lock while another process holds it.
const RETRY_INTERVAL: Duration = Duration::from_millis(1);

type Writes = Vec<Box<dyn PendingWrite>>;

/// The stage at which a transaction failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Before the commit. The transaction is rolled back.
    Before,
    /// In the commit, which may have happened.
    Commit,
}

impl Stage {
    /// The effect that a write of this version may have had.
    fn effect(self, version: Option<Version>) -> Effect {
        match self {
            Self::Before => Effect::Read,
            Self::Commit => Effect::Write(version),
        }
    }
}

impl Writer {
    /// Writes a batch when this handle has the locks.
    ///
    /// Writes are claimed only once the locks are held, and those whose callers have given up are skipped. So a call
    /// that times out before that is `Unavailable` and not applied.
    pub(super) fn write(&mut self, batch: &mut Batch) {
        if batch.writes.is_empty() {
            return;
        }
        let Some(_guard) = self.take_write_lock(&mut batch.writes) else { return };
        if let Err(error) = self.begin(&mut batch.writes) {
            batch.writes.retain(|write| write.claim());
            return fail(std::mem::take(&mut batch.writes), &error, Stage::Before);
        }
        batch.fill(&mut self.jobs);
        batch.writes.retain(|write| write.claim());
        self.write_claimed(std::mem::take(&mut batch.writes));
    }

    /// Takes the process-wide write lock, waiting as long as a caller waits. A store in memory needs no lock.
    fn take_write_lock(&self, writes: &mut Writes) -> Option<WriteGuard> {
        let Some(database) = &self.database else { return Some(WriteGuard::IN_MEMORY) };
        loop {
            if let Some(guard) = database.write_lock.take(self.runtime.timer(), LOCK_WAIT) {
                return Some(guard);
            }
            writes.retain(|write| write.has_caller());
            if writes.is_empty() {
                return None;
            }
        }
    }

    /// Begins a transaction.
    ///
    /// It polls SQLite's lock itself. SQLite's busy handler polls at intervals of up to 100 ms, and would seldom meet
    /// the short time between two commits of a busy process.
    fn begin(&self, writes: &mut Writes) -> rusqlite::Result<()> {
        let connection = self.connection();
        let Some(database) = &self.database else { return run(&connection, "BEGIN IMMEDIATE") };
        if !database.is_in_place() {
            let moved = ffi::Error::new(ffi::SQLITE_READONLY_DBMOVED);
            return Err(rusqlite::Error::SqliteFailure(moved, None));
        }
        let until = Instant::now() + database.busy_timeout;
        connection.busy_timeout(Duration::ZERO)?;
        let begun = loop {
            match run(&connection, "BEGIN IMMEDIATE") {
                Err(error) if is_busy(&error) && Instant::now() < until => {
                    writes.retain(|write| write.has_caller());
                    if writes.is_empty() {
                        break Err(error);
                    }
                    self.runtime.timer().sleep(RETRY_INTERVAL);
                }
                begun => break begun,
            }
        };
        connection.busy_timeout(database.busy_timeout)?;
        begun
    }

    /// Applies and commits a batch whose transaction has begun.
    ///
    /// If it fails before the commit, each write is tried alone, so that one bad write does not fail the others.
    fn write_claimed(&self, mut writes: Writes) {
        match self.transact(&mut writes) {
            Ok(()) => writes.into_iter().for_each(PendingWrite::committed),
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

    fn transact(&self, writes: &mut Writes) -> Result<(), (rusqlite::Error, Stage)> {
        let connection = self.connection();
        let outcome = self.try_transact(&connection, writes);
        if outcome.is_err() && !connection.is_autocommit() {
            // If the rollback fails, SQLite has rolled back already.
            let _ = connection.execute_batch("ROLLBACK");
        }
        if matches!(outcome, Err((_, Stage::Commit))) {
            let _ = rewrite_page(&connection);
        }
        drop(connection);
        self.checked.end_batch();
        let changed = outcome?;
        for key in &changed {
            self.watchers.hub.notify(key);
        }
        Ok(())
    }

    fn try_transact(&self, connection: &Connection, writes: &mut Writes) -> Result<Vec<Key>, (rusqlite::Error, Stage)> {
        let before = |error| (error, Stage::Before);
        let rows = Rows::new(connection, &self.sql, &*self.clock, &self.checked);
        for write in writes {
            write.apply(&rows).map_err(before)?;
        }
        let changed = rows.into_changed();
        let is_watched = self.log_if_watched(connection, &changed).map_err(before)?;
        run(connection, "COMMIT").map_err(|error| (error, Stage::Commit))?;
        // Another process may have taken a lease between the check and the commit. Its watcher must get every change
        // that is acknowledged from now on, so that these changes are logged late.
        if !is_watched && self.is_watched(connection, &changed).unwrap_or(false) {
            let _ = run(connection, "BEGIN IMMEDIATE")
                .and_then(|()| change_log::log(connection, &self.sql, self.watchers.handle, &changed))
                .and_then(|()| run(connection, "COMMIT"));
        }
        Ok(changed)
    }

    fn is_watched(&self, connection: &Connection, changed: &[Key]) -> rusqlite::Result<bool> {
        if changed.is_empty() || !self.watchers.is_shared {
            return Ok(false);
        }
        change_log::is_watched(connection, &self.sql, self.watchers.handle)
    }

    fn log_if_watched(&self, connection: &Connection, changed: &[Key]) -> rusqlite::Result<bool> {
        let is_watched = self.is_watched(connection, changed)?;
        if is_watched {
            change_log::log(connection, &self.sql, self.watchers.handle, changed)?;
        }
        Ok(is_watched)
    }

    /// Syncs the log, unless every commit does. A sync covers all earlier commits.
    pub(super) fn flush(&self, flushes: Vec<oneshot::Sender<Result<()>>>) {
        if flushes.is_empty() {
            return;
        }
        let synced = match self.sync {
            SyncMode::EveryCommit => Ok(()),
            SyncMode::LosesOnPowerCut => {
                let connection = self.connection();
                let outcome = sync_log(&connection);
                let reset = connection.pragma_update(None, "synchronous", self.sync.pragma());
                outcome.and(reset)
            }
        };
        let mut failure = synced.err();
        let is_synced = failure.is_none();
        for reply in flushes {
            let _ = reply.send(match failure.take() {
                Some(error) => Err(read(error)),
                None if is_synced => Ok(()),
                None => Err(Error::unavailable("the sync failed")),
            });
        }
    }
}

/// Sends an error to the callers of the writes.
fn fail(writes: Writes, error: &rusqlite::Error, stage: Stage) {
    for write in writes {
        write.failed(&mut |version| classify(copy(error), stage.effect(version)));
    }
}

fn run(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.execute([]).map(|_| ())
}

/// Commits an unchanged page with a sync.
fn sync_log(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "synchronous", SyncMode::EveryCommit.pragma())?;
    rewrite_page(connection)
}

/// Commits an unchanged page.
///
/// After a failed sync SQLite rolls the commit back, but its frames stay in the file beyond the end of the log. If the
/// log were recovered before the next commit, recovery would treat these frames as committed, although calls have seen
/// that the write was not applied. This commit overwrites them, even if it cannot be synced.
fn rewrite_page(connection: &Connection) -> rusqlite::Result<()> {
    let layout: i32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    connection.pragma_update(None, "user_version", layout)
}
