//! sled's database as the worker has it: changes go in as batches with their ledger, and are made as safe as declared.

use std::io;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use kv_core::{Error, ErrorKind, Key, Result};
use sled::Db;

use crate::behind::Behind;
use crate::changes::{Applicable, Changes};
use crate::config::SledDurability;
use crate::draft::Draft;
use crate::error::{from_io, from_sled};
use crate::gate;
use crate::handle::Shared;
use crate::health::Trouble;
use crate::ledger::Ledger;
use crate::medium::Medium;
use crate::request::Failure;
use crate::seal;
use crate::stats::count;

/// The database, its ledger and its files.
pub(crate) struct Database {
    db: Db,
    ledger: Ledger,
    medium: Medium,
    shared: Arc<Shared>,
    durability: SledDurability,
    /// Whether something was applied that was not handed over.
    is_dirty: bool,
    /// Whether something was applied since opening.
    has_written: bool,
    /// Whether sled has failed in a way after which it must not be asked for anything.
    is_unfit: bool,
}

impl Database {
    pub(crate) fn new(db: Db, ledger: Ledger, medium: Medium, shared: Arc<Shared>, durability: SledDurability) -> Self {
        Self { db, ledger, medium, shared, durability, is_dirty: false, has_written: false, is_unfit: false }
    }

    /// Whether something was acknowledged that is not handed over.
    pub(crate) fn is_behind(&self) -> bool {
        self.is_dirty || self.shared.behind.as_ref().is_some_and(Behind::has_some)
    }

    pub(crate) fn is_fit(&self) -> bool {
        !self.is_unfit
    }

    /// Judges, and applies that and what waits to be written. Gives the keys that were changed now.
    pub(crate) fn change<T>(
        &mut self,
        judge: impl FnOnce(&Shared, &mut Draft<'_>) -> Result<T, Stop>,
    ) -> Result<(T, Vec<Key>), Stop> {
        // First without holding up whoever reads what waits; little comes until the lock is had.
        self.catch_up()?;
        let shared = Arc::clone(&self.shared);
        let mut behind = shared.behind.as_ref().map(Behind::lock);
        let waiting = behind.as_deref_mut().map(|waiting| mem::take(&mut waiting.changes)).unwrap_or_default();
        let mut draft = Draft::over(&self.db, shared.clock.now(), waiting, None);
        let judged = judge(&shared, &mut draft)?;
        fit(draft.take_trouble())?;
        let (changes, keys) = draft.end();
        self.apply(&changes)?;
        Ok((judged, keys))
    }

    /// Writes what was acknowledged and waits to be written.
    pub(crate) fn catch_up(&mut self) -> Result<(), Stop> {
        let shared = Arc::clone(&self.shared);
        let Some(behind) = &shared.behind else { return Ok(()) };
        self.apply(&behind.begin())?;
        behind.written();
        Ok(())
    }

    fn apply(&mut self, changes: &Changes) -> Result<(), Stop> {
        let Some(Applicable { batch, ledger }) = changes.applicable(self.ledger) else { return Ok(()) };
        if !self.has_written {
            let taken = seal::take_off(self.medium.folder());
            taken.map_err(|error| self.refused(from_io(error, "the seal of the store cannot be taken off")))?;
        }
        let Some(alone) = gate::exclusive(self.shared.operation_timeout / 2) else {
            return Err(self.refused(Error::unavailable("another sled store of this process stands still")));
        };
        self.db.apply_batch(batch).map_err(|error| Stop::Unknown(from_sled(error)))?;
        drop(alone);
        count(&self.shared.counts.batches, 1);
        self.ledger = ledger;
        (self.is_dirty, self.has_written) = (true, true);
        Ok(())
    }

    /// Nothing was begun. But what was acknowledged already can be told to nobody any more.
    fn refused(&self, error: Error) -> Stop {
        if self.shared.behind.is_some() { Stop::Unknown(error) } else { Stop::NotBegun(error) }
    }

    /// Says in the files that they are whole, once everything was handed over.
    pub(crate) fn seal(&mut self) -> io::Result<()> {
        let folder = self.medium.folder().to_owned();
        if self.is_unfit || !self.shared.health.is_open() || seal::read(&folder) == Some(self.ledger) {
            return Ok(());
        }
        self.medium.sync_all()?;
        seal::put(&folder, self.ledger)
    }

    /// Makes what was applied as safe as declared.
    pub(crate) fn make_safe(&mut self) -> Result<(), Stop> {
        match self.durability {
            SledDurability::Process => self.hand_over(),
            SledDurability::Power => {
                self.hand_over()?;
                count(&self.shared.counts.syncs, 1);
                self.medium.sync().map_err(|error| Stop::Unknown(from_io(error, "the files cannot be synced")))
            }
            SledDurability::Interval(_) => Ok(()),
        }
    }

    /// Hands everything that sled holds back to the operating system.
    pub(crate) fn hand_over(&mut self) -> Result<(), Stop> {
        let Some(beside) = gate::shared(self.shared.operation_timeout / 2) else {
            return Err(Stop::Unknown(Error::unavailable("another sled store of this process stands still")));
        };
        self.db.flush().map_err(|error| Stop::Unknown(from_sled(error)))?;
        drop(beside);
        count(&self.shared.counts.flushes, 1);
        self.is_dirty = false;
        Ok(())
    }

    /// Runs something over sled. What ends badly poisons the store, unless it was not begun.
    pub(crate) fn attempt<T>(&mut self, run: impl FnOnce(&mut Self) -> Result<T, Stop>) -> Result<T, Failure> {
        let shared = Arc::clone(&self.shared);
        let done = catch_unwind(AssertUnwindSafe(|| run(self)));
        self.is_unfit |= !matches!(done, Ok(Ok(_) | Err(Stop::NotBegun(_))));
        match done {
            // It came through in the end, but everybody was told that it did not.
            Ok(Ok(_)) if !shared.health.is_open() => Err(Failure::Unknown(shared.health.story())),
            Ok(Ok(done)) => Ok(done),
            Ok(Err(Stop::NotBegun(error))) => Err(not_begun(&error)),
            Ok(Err(Stop::Unknown(error))) => {
                shared.health.poison(Trouble::failed(&error));
                Err(Failure::Unknown(shared.health.story()))
            }
            Ok(Err(Stop::Unfit(trouble))) => {
                shared.health.poison(trouble);
                match shared.health.check_write() {
                    Err(error) => Err(not_begun(&error)),
                    Ok(()) => Err(Failure::Unknown(shared.health.story())),
                }
            }
            Err(_panic) => {
                shared.health.poison(Trouble::panicked("a write"));
                Err(Failure::Unknown(shared.health.story()))
            }
        }
    }

    /// Brings everything to the medium, whatever the durability.
    pub(crate) fn sync_all(&mut self) -> Result<(), Stop> {
        count(&self.shared.counts.syncs, 1);
        self.medium.sync_all().map_err(|error| Stop::Unknown(from_io(error, "the files cannot be synced")))
    }

    /// Gives the files back, and tells whether it could.
    pub(crate) fn close(self) -> bool {
        let knows_of_error = self.shared.settings.get().is_some_and(|settings| settings.global_error().is_err());
        let Self { db, medium, is_unfit, .. } = self;
        if is_unfit && !knows_of_error {
            // sled flushes what it drops, unless it knows of an error, and would wait for ever with the lock of the whole
            // process: better that one folder stays locked until the process ends.
            mem::forget(db);
            return false;
        }
        catch_unwind(AssertUnwindSafe(|| drop((medium, db)))).is_ok()
    }
}

/// How far something came that failed.
pub(crate) enum Stop {
    NotBegun(Error),
    /// Nothing was applied, and nothing may be any more.
    Unfit(Trouble),
    Unknown(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::NotBegun(error)
    }
}

fn fit(trouble: Option<Trouble>) -> Result<(), Stop> {
    trouble.map_or(Ok(()), |trouble| Err(Stop::Unfit(trouble)))
}

pub(crate) fn not_begun(error: &Error) -> Failure {
    Failure::NotBegun(constructor(error), error.message().to_owned())
}

/// Errors are not cloned; each caller gets one of its own.
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
