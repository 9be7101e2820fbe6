//! The worker's access to sled: it applies batches together with the tree checksum, and makes them durable.

use std::io;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use kv_core::hub::{Changes, Hub};
use kv_core::{Error, ErrorKind, Key, Result};
use sled::{Db, Tree};

use crate::clean_marker;
use crate::config::SledDurability;
use crate::error::{from_io, from_sled};
use crate::health::Poison;
use crate::pending::{PendingChanges, TreeBatch};
use crate::presence::Presence;
use crate::process_lock;
use crate::request::WriteFailure;
use crate::state::State;
use crate::stats::count;
use crate::storage::Storage;
use crate::tree_checksum::TreeChecksum;
use crate::write_behind::WriteBehind;

/// The database, its tree checksum and its files.
pub(crate) struct Database {
    db: Db,
    checksum: TreeChecksum,
    storage: Storage,
    presence: Presence,
    pub(crate) state: Arc<State>,
    durability: SledDurability,
    /// The number of bytes of large values that were written or replaced since space was last reclaimed.
    large_bytes: u64,
    /// True if a batch was applied since the last flush.
    is_dirty: bool,
    /// True if a batch was applied since opening.
    has_written: bool,
    /// True if sled has failed so badly that it must not be called any more.
    is_broken: bool,
}

impl Database {
    pub(crate) fn new(
        db: Db,
        checksum: TreeChecksum,
        (storage, presence): (Storage, Presence),
        state: Arc<State>,
        durability: SledDurability,
    ) -> Self {
        Self {
            db,
            checksum,
            storage,
            presence,
            state,
            durability,
            large_bytes: 0,
            is_dirty: false,
            has_written: false,
            is_broken: false,
        }
    }

    pub(crate) fn tree(&self) -> &Tree {
        &self.db
    }

    pub(crate) fn checksum(&self) -> TreeChecksum {
        self.checksum
    }

    pub(crate) fn large_bytes(&self) -> u64 {
        self.large_bytes
    }

    pub(crate) fn reset_large_bytes(&mut self) {
        self.large_bytes = 0;
    }

    /// True if some acknowledged writes are not flushed yet.
    pub(crate) fn needs_flush(&self) -> bool {
        self.is_dirty || self.state.write_behind.as_ref().is_some_and(WriteBehind::has_pending)
    }

    pub(crate) fn is_usable(&self) -> bool {
        !self.is_broken
    }

    /// Writes the write-behind buffer to sled.
    pub(crate) fn apply_pending(&mut self) -> Result<(), Stop> {
        let state = Arc::clone(&self.state);
        let Some(write_behind) = &state.write_behind else { return Ok(()) };
        // The watchers were notified when the changes were added to the buffer.
        self.apply(&write_behind.begin_flush(), &[])?;
        write_behind.end_flush();
        Ok(())
    }

    /// Applies changes, and notifies the watchers of the changed keys. Does nothing if there are no changes.
    pub(crate) fn apply(&mut self, changes: &PendingChanges, keys: &[Key]) -> Result<(), Stop> {
        let Some(batch) = changes.to_batch(self.checksum) else { return Ok(()) };
        self.large_bytes += changes.large_bytes();
        self.apply_batch(batch, keys)
    }

    /// Applies a batch, and notifies the watchers of the changed keys.
    ///
    /// Reads of the tree hold the process-wide lock, so no read returns a change before the watchers are notified, and no
    /// later read returns the old entry (clause W-5). The watchers are notified of every change that becomes visible,
    /// whatever happens to the write afterwards (clause W-1).
    pub(crate) fn apply_batch(&mut self, TreeBatch { batch, checksum }: TreeBatch, keys: &[Key]) -> Result<(), Stop> {
        self.check_presence(false)?;
        if !self.has_written {
            let removed = clean_marker::remove(self.storage.folder());
            let message = "the clean-shutdown marker of the store cannot be removed";
            removed.map_err(|error| self.not_applied(from_io(error, message)))?;
        }
        let Some(exclusive) = process_lock::exclusive(self.state.operation_timeout / 2) else {
            return Err(self.not_applied(Error::unavailable("another sled store of this process hangs")));
        };
        let notification = NotifyOnDrop { hub: &self.state.changes, keys };
        let applied = self.db.apply_batch(batch);
        drop(notification);
        drop(exclusive);
        applied.map_err(|error| Stop::Unknown(from_sled(error)))?;
        count(&self.state.counters.batches, 1);
        self.checksum = checksum;
        (self.is_dirty, self.has_written) = (true, true);
        Ok(())
    }

    /// Fails if the store's files were removed, replaced or emptied.
    fn check_presence(&mut self, is_applied: bool) -> Result<(), Stop> {
        match self.presence.problem() {
            Some(problem) => Err(Stop::Misplaced { poison: Poison::misplaced(problem), is_applied }),
            None => Ok(()),
        }
    }

    /// The failure of a batch that was not applied. With write-behind, the failure is `Unknown`, because the batch may
    /// hold acknowledged writes, and the loss of such writes must poison the store.
    fn not_applied(&self, error: Error) -> Stop {
        if self.state.write_behind.is_some() { Stop::Unknown(error) } else { Stop::NotStarted(error) }
    }

    /// Syncs the files and writes the clean-shutdown marker. Does nothing if the store is poisoned, or if the marker is
    /// still right. The caller must have flushed all writes.
    pub(crate) fn mark_clean(&mut self) -> io::Result<()> {
        let folder = self.storage.folder().to_owned();
        if self.is_broken || !self.state.health.is_open() || clean_marker::read(&folder) == Some(self.checksum) {
            return Ok(());
        }
        self.storage.sync_all()?;
        clean_marker::write(&folder, self.checksum)
    }

    /// Makes the applied batches as durable as the configuration demands.
    pub(crate) fn make_durable(&mut self) -> Result<(), Stop> {
        match self.durability {
            SledDurability::Process => self.flush(),
            SledDurability::Power => {
                self.flush()?;
                count(&self.state.counters.syncs, 1);
                self.storage.sync().map_err(|error| Stop::Unknown(from_io(error, "the files cannot be synced")))
            }
            SledDurability::Interval(_) => Ok(()),
        }
    }

    /// Flushes sled's log to the operating system.
    pub(crate) fn flush(&mut self) -> Result<(), Stop> {
        let Some(shared) = process_lock::shared(self.state.operation_timeout / 2) else {
            return Err(Stop::Unknown(Error::unavailable("another sled store of this process hangs")));
        };
        self.db.flush().map_err(|error| Stop::Unknown(from_sled(error)))?;
        drop(shared);
        count(&self.state.counters.flushes, 1);
        self.is_dirty = false;
        self.check_presence(true)
    }

    /// Runs an operation that calls sled. A panic and every failure except [`Stop::NotStarted`] poison the store.
    pub(crate) fn run<T>(&mut self, operation: impl FnOnce(&mut Self) -> Result<T, Stop>) -> Result<T, WriteFailure> {
        let state = Arc::clone(&self.state);
        let done = catch_unwind(AssertUnwindSafe(|| operation(self)));
        self.is_broken |= !matches!(done, Ok(Ok(_) | Err(Stop::NotStarted(_) | Stop::Misplaced { .. })));
        match done {
            // The store was poisoned while the operation ran, and all waiting callers already got an error.
            Ok(Ok(_)) if !state.health.is_open() => Err(WriteFailure::Unknown(state.health.poison_text())),
            Ok(Ok(done)) => Ok(done),
            Ok(Err(Stop::NotStarted(error))) => Err(not_started(&error)),
            Ok(Err(Stop::Unknown(error))) => {
                state.poison(Poison::failed(&error));
                Err(WriteFailure::Unknown(state.health.poison_text()))
            }
            Ok(Err(Stop::Misplaced { poison, is_applied: true })) => {
                state.poison(poison);
                Err(WriteFailure::Unknown(state.health.poison_text()))
            }
            Ok(Err(Stop::Poisoned(poison) | Stop::Misplaced { poison, is_applied: false })) => {
                state.poison(poison);
                match state.health.check_write() {
                    Err(error) => Err(not_started(&error)),
                    Ok(()) => Err(WriteFailure::Unknown(state.health.poison_text())),
                }
            }
            Err(_panic) => {
                state.poison(Poison::panicked("a write"));
                Err(WriteFailure::Unknown(state.health.poison_text()))
            }
        }
    }

    /// Syncs all files, whatever the configured durability is.
    pub(crate) fn sync_all(&mut self) -> Result<(), Stop> {
        count(&self.state.counters.syncs, 1);
        self.storage.sync_all().map_err(|error| Stop::Unknown(from_io(error, "the files cannot be synced")))
    }

    /// Closes the database and releases its files. Returns false if the files may stay locked.
    pub(crate) fn close(self) -> bool {
        let has_sled_failed = self.state.has_sled_failed();
        let Self { db, storage, is_broken, .. } = self;
        if is_broken && !has_sled_failed {
            // Dropping a database flushes it, unless one of sled's threads has reported an error. Here the flush would
            // hang while it holds the process-wide lock. Therefore leak the database, so that only this folder stays
            // locked.
            mem::forget(db);
            return false;
        }
        catch_unwind(AssertUnwindSafe(|| drop((storage, db)))).is_ok()
    }
}

/// Notifies the watchers of changed keys when it is dropped: also after a failure or a panic of sled, because a part of the
/// batch may be visible then.
struct NotifyOnDrop<'c> {
    hub: &'c Hub<Changes>,
    keys: &'c [Key],
}

impl Drop for NotifyOnDrop<'_> {
    fn drop(&mut self) {
        for key in self.keys {
            self.hub.notify(key);
        }
    }
}

/// The failure of an operation, by the progress that the operation had made.
pub(crate) enum Stop {
    /// Nothing was applied.
    NotStarted(Error),
    /// Nothing was applied, and sled must not be used any more.
    Poisoned(Poison),
    /// The batch may have been applied.
    Unknown(Error),
    /// The store's files were removed, replaced or emptied. sled itself works, and can still be closed.
    Misplaced { poison: Poison, is_applied: bool },
}

impl Stop {
    /// The cause of a store that this failure poisons.
    pub(crate) fn cause(&self) -> Poison {
        match self {
            Self::NotStarted(error) | Self::Unknown(error) => Poison::failed(error),
            Self::Poisoned(poison) | Self::Misplaced { poison, is_applied: _ } => poison.clone(),
        }
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::NotStarted(error)
    }
}

pub(crate) fn not_started(error: &Error) -> WriteFailure {
    WriteFailure::NotStarted(constructor(error), error.message().to_owned())
}

/// Returns the constructor for errors of the same kind. Errors cannot be cloned, and each waiting caller needs its own
/// error.
fn constructor(error: &Error) -> fn(String) -> Error {
    match error.kind() {
        ErrorKind::Capacity => |text| Error::capacity(text),
        ErrorKind::Denied => |text| Error::denied(text),
        ErrorKind::Corrupt => |text| Error::corrupt(text),
        ErrorKind::Invalid => |text| Error::invalid(text),
        ErrorKind::Closed => |_| Error::closed(),
        _ => |text| Error::unavailable(text),
    }
}
