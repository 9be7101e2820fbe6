//! The engine, and the section that makes changes visible.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};

use super::Engine;
use crate::error::{Error, Result};

/// The engine of an open store. Reads hold the lock shared. The writer holds it exclusively while it commits and
/// notifies the hub, so that no read returns a change before the sinks know of it (clause W-5).
#[derive(Debug)]
pub(super) struct Visible<E> {
    engine: RwLock<Option<Arc<E>>>,
    is_closed: AtomicBool,
}

impl<E: Engine> Visible<E> {
    pub(super) fn new() -> Self {
        Self { engine: RwLock::new(None), is_closed: AtomicBool::new(false) }
    }

    pub(super) fn open(&self, engine: Arc<E>) {
        *self.exclusive() = Some(engine);
    }

    /// Makes later calls fail. Waits for nothing, so it works also while the engine hangs.
    pub(super) fn mark_closed(&self) {
        self.is_closed.store(true, Ordering::Release);
    }

    /// Removes the engine. No read has it after the call.
    pub(super) fn close(&self) {
        self.mark_closed();
        self.exclusive().take();
    }

    pub(super) fn exclusive(&self) -> RwLockWriteGuard<'_, Option<Arc<E>>> {
        // A panic of the engine leaves nothing half done here.
        self.engine.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fails if the store is closed.
    pub(super) fn check_open(&self) -> Result<()> {
        if self.is_closed.load(Ordering::Acquire) { Err(Error::closed()) } else { Ok(()) }
    }

    /// Reads from a snapshot.
    pub(super) fn read<T>(&self, read: impl FnOnce(&E::Snapshot<'_>) -> Result<T>) -> Result<T> {
        self.check_open()?;
        let engine = self.engine.read().unwrap_or_else(PoisonError::into_inner);
        let engine = engine.as_ref().ok_or_else(Error::closed)?;
        let read = || read(&engine.snapshot()?);
        catch_unwind(AssertUnwindSafe(read))
            .unwrap_or_else(|_| Err(Error::defect("the database panicked during a read")))
    }
}
