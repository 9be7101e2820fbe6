//! The commit of a batch.

use std::time::Duration;

use kv_core::adapter::Effect;
use kv_core::{Error, Key, Result, Version};
use rusqlite::Connection;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::config::SyncMode;
use crate::error::{Abort, classify, copy, is_busy, is_full, read};
use crate::foreign;
use crate::room::{Room, Taken, empty_log};
use crate::write_lock::WriteGuard;
use crate::writer::gather::Batch;
use crate::writer::job::PendingWrite;
use crate::writer::rows::Rows;
use crate::writer::worker::{LOCK_WAIT, Writer};

/// The interval between attempts to take SQLite's lock while another process holds it.
pub(super) const RETRY_INTERVAL: Duration = Duration::from_millis(1);

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

/// The failure of a batch. `Abort::Call` refuses all of its writes.
type Failure = (Abort, Stage);

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
        // The files are checked first, because measuring the room may empty the log.
        let begun = self.check_files().map(|()| self.room(&batch.writes)).and_then(|room| {
            self.begin(&mut batch.writes)?;
            Ok(room)
        });
        let room = match begun {
            Ok(room) => room,
            Err(error) => {
                batch.writes.retain(|write| write.claim());
                return fail(std::mem::take(&mut batch.writes), &error, Stage::Before);
            }
        };
        batch.fill(&mut self.jobs);
        batch.writes.retain(|write| write.claim());
        self.write_claimed(std::mem::take(&mut batch.writes), &room);
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

    /// Checks that the files of the database are in place and whole.
    fn check_files(&self) -> Result<(), Abort> {
        match &self.files {
            Some(files) => Ok(files.check(&self.connection())?),
            None => Ok(()),
        }
    }

    /// The room on the disk for these writes.
    fn room(&self, writes: &Writes) -> Room {
        let growing: Vec<_> = writes.iter().filter(|write| write.grows()).map(|write| write.bytes()).collect();
        match &self.files {
            // A batch without such a write may still be joined by one.
            Some(files) => Room::measure(files, &self.connection(), self.min_free, &growing),
            None => Room::UNLIMITED,
        }
    }

    /// Begins a transaction.
    ///
    /// It polls SQLite's lock itself. SQLite's busy handler polls at intervals of up to 100 ms, and would seldom meet
    /// the short time between two commits of a busy process.
    fn begin(&self, writes: &mut Writes) -> Result<(), Abort> {
        let connection = self.connection();
        let Some(database) = &self.database else { return Ok(run(&connection, "BEGIN IMMEDIATE")?) };
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
        begun?;
        let checked = self.check_schema(&connection);
        if checked.is_err() {
            roll_back(&connection);
        }
        checked
    }

    /// Checks the schema for foreign objects if it has changed. A foreign trigger is tolerated here, because it does
    /// not run.
    fn check_schema(&self, connection: &Connection) -> Result<(), Abort> {
        let version = foreign::schema_version(connection)?;
        if self.checked_schema.get() == Some(version) {
            return Ok(());
        }
        if let Some(object) = foreign::find(connection, &self.sql.table)?.into_iter().find(|object| object.is_run()) {
            return Err(object.to_error().into());
        }
        self.checked_schema.set(Some(version));
        Ok(())
    }

    /// Applies and commits a batch whose transaction has begun.
    ///
    /// If it fails before the commit, each write is tried alone, so that one bad write does not fail the others. If the
    /// disk is full, the writes that free space are tried again with an emptied log.
    fn write_claimed(&self, mut writes: Writes, room: &Room) {
        match self.transact(&mut writes, room) {
            Ok(()) => writes.into_iter().for_each(PendingWrite::committed),
            Err((_, Stage::Before)) if writes.len() > 1 => self.write_each(writes, room),
            Err((Abort::Driver(error), stage)) if is_full(&error) => {
                let (growing, freeing): (Writes, Writes) = writes.into_iter().partition(|write| write.grows());
                let error = Abort::Driver(error);
                fail(growing, &error, stage);
                if freeing.is_empty() {
                    return;
                }
                let is_emptied = self.files.as_ref().is_some_and(|files| empty_log(files, &self.connection()));
                if !is_emptied {
                    return fail(freeing, &error, stage);
                }
                for write in freeing {
                    self.write_alone(write, |mut single| match self.transact(&mut single, room) {
                        Ok(()) => single.into_iter().for_each(PendingWrite::committed),
                        Err((error, stage)) => fail(single, &error, stage),
                    });
                }
            }
            Err((error, stage)) => fail(writes, &error, stage),
        }
    }

    fn write_each(&self, writes: Writes, room: &Room) {
        for write in writes {
            self.write_alone(write, |single| self.write_claimed(single, room));
        }
    }

    /// Begins a transaction for one write, and continues with it.
    fn write_alone(&self, write: Box<dyn PendingWrite>, next: impl FnOnce(Writes)) {
        let mut single = vec![write];
        match self.check_files().and_then(|()| self.begin(&mut single)) {
            Ok(()) => next(single),
            Err(error) => fail(single, &error, Stage::Before),
        }
    }

    fn transact(&self, writes: &mut Writes, room: &Room) -> Result<(), Failure> {
        let connection = self.connection();
        let outcome = self.try_transact(&connection, writes, room);
        if outcome.is_err() {
            roll_back(&connection);
        }
        if matches!(outcome, Err((Abort::Driver(_), Stage::Commit))) {
            let _ = rewrite_page(&connection);
        }
        drop(connection);
        self.checked.end_batch();
        let changed = outcome?;
        for key in &changed {
            self.watchers.hub.notify(key);
        }
        // The files may have been replaced since the check before the transaction. Then the commit is lost.
        match &self.files {
            Some(files) => files.check_in_place().map_err(|error| (error.into(), Stage::Commit)),
            None => Ok(()),
        }
    }

    fn try_transact(&self, connection: &Connection, writes: &mut Writes, room: &Room) -> Result<Vec<Key>, Failure> {
        let before = |error: rusqlite::Error| (error.into(), Stage::Before);
        let rows = Rows::new(connection, &self.sql, &*self.clock, &self.checked);
        let mut taken = Taken::default();
        for write in writes {
            match if write.grows() { taken.add(write.bytes(), room) } else { Ok(()) } {
                Ok(()) => write.apply(&rows).map_err(before)?,
                Err(error) => write.refuse(error),
            }
        }
        let changed = rows.into_changed();
        let is_watched = self.log_if_watched(connection, &changed).map_err(before)?;
        run(connection, "COMMIT").map_err(|error| (error.into(), Stage::Commit))?;
        if is_watched {
            self.unlogged.borrow_mut().clear();
        } else {
            self.log_late(connection, &changed);
        }
        Ok(changed)
    }

    /// Syncs the log, unless every commit does. A sync covers all earlier commits, if the files are still in place.
    pub(super) fn flush(&self, flushes: Vec<oneshot::Sender<Result<()>>>) {
        if flushes.is_empty() {
            return;
        }
        if let Err(Abort::Call(error)) = self.check_files() {
            for reply in flushes {
                let _ = reply.send(Err(error.clone()));
            }
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
fn fail(writes: Writes, error: &Abort, stage: Stage) {
    for write in writes {
        write.failed(&mut |version| match (error, stage) {
            (Abort::Driver(error), _) => classify(copy(error), stage.effect(version)),
            (Abort::Call(error), Stage::Before) => error.clone(),
            (Abort::Call(error), Stage::Commit) => {
                Error::indeterminate(version, error.to_string()).with_source(error.clone())
            }
        });
    }
}

/// Ends a failed transaction. If the rollback fails, SQLite has rolled back already.
pub(super) fn roll_back(connection: &Connection) {
    if !connection.is_autocommit() {
        let _ = connection.execute_batch("ROLLBACK");
    }
}

pub(super) fn run(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
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
