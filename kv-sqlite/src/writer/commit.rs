//! Applying and committing a batch.

use std::time::Duration;

use kv_core::adapter::Effect;
use kv_core::{Error, Key, Result, Version};
use rusqlite::Connection;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::config::SyncMode;
use crate::error::{Failure, copy, is_busy, is_full, read_error, to_error};
use crate::foreign;
use crate::free_space::{FreeSpace, NeededSpace, empty_log};
use crate::watchers::CommitEnd;
use crate::write_lock::WriteGuard;
use crate::writer::batch::Batch;
use crate::writer::job::PendingWrite;
use crate::writer::rows::Rows;
use crate::writer::worker::{LOCK_WAIT, Writer};

/// The interval between attempts to take SQLite's lock while another process holds it.
pub(super) const RETRY_INTERVAL: Duration = Duration::from_millis(1);

type Writes = Vec<Box<dyn PendingWrite>>;

/// The stage at which a transaction failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Before the commit. The transaction is rolled back, so nothing was applied.
    Before,
    /// In the commit. The commit may have succeeded nevertheless.
    Commit,
}

impl Stage {
    /// Returns the effect that a write of this version may have had. `Effect::Read` means that nothing was applied.
    fn effect(self, version: Option<Version>) -> Effect {
        match self {
            Self::Before => Effect::Read,
            Self::Commit => Effect::Write(version),
        }
    }
}

/// The failure of a whole batch, and its stage.
type StagedFailure = (Failure, Stage);

impl Writer {
    /// Waits for the process-wide lock and for SQLite's lock, and then writes a batch.
    ///
    /// The writes are claimed only when both locks are held. A write whose caller gave up while the writer waited for a
    /// lock is skipped: the caller got `Unavailable`, so the write must not be applied.
    pub(super) fn write(&mut self, batch: &mut Batch) {
        if batch.writes.is_empty() {
            return;
        }
        let Some(_guard) = self.take_write_lock(&mut batch.writes) else { return };
        // The files are checked first, because measuring the free space may empty the write-ahead log.
        let begun = self.check_files().map(|()| self.free_space(&batch.writes)).and_then(|free| {
            self.begin(&mut batch.writes)?;
            Ok(free)
        });
        let free = match begun {
            Ok(free) => free,
            Err(error) => {
                batch.writes.retain(|write| write.claim());
                return fail(std::mem::take(&mut batch.writes), &error, Stage::Before);
            }
        };
        batch.fill(&mut self.jobs);
        batch.writes.retain(|write| write.claim());
        self.write_claimed(std::mem::take(&mut batch.writes), &free);
    }

    /// Takes the process-wide write lock. Returns `None` if all callers give up while the writer waits. A store in
    /// memory needs no lock.
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

    /// Checks that the files of the database are in place and not truncated.
    fn check_files(&self) -> Result<(), Failure> {
        match &self.files {
            Some(files) => Ok(files.check(&self.connection())?),
            None => Ok(()),
        }
    }

    /// Measures the free space for these writes.
    fn free_space(&self, writes: &Writes) -> FreeSpace {
        let growing: Vec<_> = writes.iter().filter(|write| write.grows()).map(|write| write.bytes()).collect();
        match &self.files {
            // Measured even if no write needs space, because writes that need space may still join the batch.
            Some(files) => FreeSpace::measure(files, &self.connection(), self.min_free, &growing),
            None => FreeSpace::UNLIMITED,
        }
    }

    /// Begins a transaction and checks the schema.
    ///
    /// This polls SQLite's lock at short intervals. SQLite's busy handler polls at intervals of up to 100 ms, and would
    /// often miss the short time between two transactions of a busy process.
    fn begin(&self, writes: &mut Writes) -> Result<(), Failure> {
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

    /// Checks the schema for foreign objects that prevent writes, if the schema has changed since the last check.
    fn check_schema(&self, connection: &Connection) -> Result<(), Failure> {
        let version = foreign::schema_version(connection)?;
        if self.checked_schema.get() == Some(version) {
            return Ok(());
        }
        if let Some(object) =
            foreign::find(connection, &self.sql.table)?.into_iter().find(|object| object.prevents_writes())
        {
            return Err(object.to_error().into());
        }
        self.checked_schema.set(Some(version));
        Ok(())
    }

    /// Applies and commits a batch whose transaction has begun.
    ///
    /// If the batch fails before the commit, each write is tried alone, so that a failed write does not affect the
    /// others. If the disk is full, the write-ahead log is emptied, and the writes that free space are tried again.
    fn write_claimed(&self, mut writes: Writes, free: &FreeSpace) {
        match self.transact(&mut writes, free) {
            Ok(()) => writes.into_iter().for_each(PendingWrite::committed),
            Err((_, Stage::Before)) if writes.len() > 1 => self.write_each(writes, free),
            Err((Failure::Driver(error), stage)) if is_full(&error) => {
                let (growing, freeing): (Writes, Writes) = writes.into_iter().partition(|write| write.grows());
                let error = Failure::Driver(error);
                fail(growing, &error, stage);
                if freeing.is_empty() {
                    return;
                }
                let is_emptied = self.files.as_ref().is_some_and(|files| empty_log(files, &self.connection()));
                if !is_emptied {
                    return fail(freeing, &error, stage);
                }
                for write in freeing {
                    self.write_alone(write, |mut single| match self.transact(&mut single, free) {
                        Ok(()) => single.into_iter().for_each(PendingWrite::committed),
                        Err((error, stage)) => fail(single, &error, stage),
                    });
                }
            }
            Err((error, stage)) => fail(writes, &error, stage),
        }
    }

    /// Writes each write in its own transaction.
    fn write_each(&self, writes: Writes, free: &FreeSpace) {
        for write in writes {
            self.write_alone(write, |single| self.write_claimed(single, free));
        }
    }

    /// Begins a transaction for one write, and continues with `next`.
    fn write_alone(&self, write: Box<dyn PendingWrite>, next: impl FnOnce(Writes)) {
        let mut single = vec![write];
        match self.check_files().and_then(|()| self.begin(&mut single)) {
            Ok(()) => next(single),
            Err(error) => fail(single, &error, Stage::Before),
        }
    }

    /// Applies and commits writes whose transaction has begun, and notifies the watchers. On failure, the transaction
    /// is rolled back or has ended.
    fn transact(&self, writes: &mut Writes, free: &FreeSpace) -> Result<(), StagedFailure> {
        let connection = self.connection();
        let mut changed = Vec::new();
        let outcome = self.try_transact(&connection, writes, free, &mut changed);
        if outcome.is_err() {
            roll_back(&connection);
        }
        // The lock of the connection is still held. Therefore no read of a store in memory returns a change before the
        // sinks know of it.
        match &outcome {
            Ok(is_logged) => {
                self.watchers.end_commit(&changed, CommitEnd::Final);
                if *is_logged {
                    self.unlogged.borrow_mut().clear();
                } else {
                    self.log_late(&connection, &changed);
                }
            }
            // The commit may have succeeded nevertheless. A watcher that reads the keys again sees their entries.
            Err((_, Stage::Commit)) => {
                let end = if rewrite_page(&connection).is_ok() { CommitEnd::Final } else { CommitEnd::InDoubt };
                self.watchers.end_commit(&changed, end);
            }
            Err((_, Stage::Before)) => {}
        }
        drop(connection);
        self.checked.end_batch();
        outcome?;
        // If the files were replaced since `check_files`, the commit went to the old files and is lost.
        match &self.files {
            Some(files) => files.check_in_place().map_err(|error| (error.into(), Stage::Commit)),
            None => Ok(()),
        }
    }

    /// Applies and commits writes. Adds the changed keys to `changed` before the commit. Returns true if the changes were
    /// logged.
    fn try_transact(
        &self,
        connection: &Connection,
        writes: &mut Writes,
        free: &FreeSpace,
        changed: &mut Vec<Key>,
    ) -> Result<bool, StagedFailure> {
        let before = |error: rusqlite::Error| (error.into(), Stage::Before);
        let rows = Rows::new(connection, &self.sql, &*self.clock, &self.checked);
        let mut needed = NeededSpace::default();
        for write in writes {
            let fits = if write.grows() { needed.add(write.bytes(), free) } else { Ok(()) };
            match fits {
                Ok(()) => write.apply(&rows).map_err(before)?,
                Err(error) => write.refuse(error),
            }
        }
        *changed = rows.into_changed();
        let is_logged = self.log_if_watched(connection, changed).map_err(before)?;
        self.watchers.begin_commit();
        run(connection, "COMMIT").map_err(|error| (error.into(), Stage::Commit))?;
        Ok(is_logged)
    }

    /// Syncs the write-ahead log, unless each commit has synced the log already. Checks the files first, because
    /// acknowledged commits are lost if the files were removed or replaced.
    pub(super) fn flush(&self, flushes: Vec<oneshot::Sender<Result<()>>>) {
        if flushes.is_empty() {
            return;
        }
        if let Err(Failure::Refused(error)) = self.check_files() {
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
                Some(error) => Err(read_error(error)),
                None if is_synced => Ok(()),
                None => Err(Error::unavailable("the sync of the write-ahead log failed")),
            });
        }
    }
}

/// Sends an error to the callers of the writes.
fn fail(writes: Writes, error: &Failure, stage: Stage) {
    for write in writes {
        write.failed(&mut |version| match (error, stage) {
            (Failure::Driver(error), _) => to_error(copy(error), stage.effect(version)),
            (Failure::Refused(error), Stage::Before) => error.clone(),
            (Failure::Refused(error), Stage::Commit) => {
                Error::indeterminate(version, error.to_string()).with_source(error.clone())
            }
        });
    }
}

/// Ends a failed transaction. A failure of the rollback is ignored, because a rollback fails only if SQLite has already
/// rolled back.
pub(super) fn roll_back(connection: &Connection) {
    if !connection.is_autocommit() {
        let _ = connection.execute_batch("ROLLBACK");
    }
}

/// Runs a statement without parameters and without rows.
pub(super) fn run(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.execute([]).map(|_| ())
}

/// Makes all commits durable, in a mode that does not sync each commit: commits an unchanged page with a sync.
fn sync_log(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "synchronous", SyncMode::EveryCommit.pragma())?;
    rewrite_page(connection)
}

/// Commits an unchanged page.
///
/// [`sync_log`] calls this to sync, and the writer calls this after a failed sync. After a failed sync, SQLite has
/// rolled the commit back, but the frames of that commit are still in the write-ahead log, behind its last valid frame.
/// If the log were recovered before the next commit, recovery would apply these frames, although reads have already
/// seen that the writes were not applied. The commit of this function overwrites the frames, even if it cannot be
/// synced itself.
fn rewrite_page(connection: &Connection) -> rusqlite::Result<()> {
    let layout: i32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    connection.pragma_update(None, "user_version", layout)
}
