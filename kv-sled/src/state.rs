//! The state that all clones of a store and its tasks share.
//!
//! The tasks are two threads: the worker and the watchdog.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use kv_core::hub::{Changes, Hub, Messages};
use kv_core::{Clock, GapReason, Result, StoreInfo};
use parking_lot::RwLock;

use crate::config::SledDurability;
use crate::health::{Health, Poison};
use crate::stats::Counters;
use crate::write_behind::WriteBehind;

/// The state of one store.
pub(crate) struct State {
    pub(crate) info: StoreInfo,
    pub(crate) health: Health,
    /// The tree that callers read; `None` until opening has finished and after closing.
    pub(crate) tree: RwLock<Option<sled::Tree>>,
    /// sled's configuration. The configuration also holds the first error of sled's background threads.
    pub(crate) sled_config: OnceLock<sled::Config>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) operation_timeout: Duration,
    pub(crate) changes: Hub<Changes>,
    pub(crate) messages: Hub<Messages>,
    pub(crate) counters: Counters,
    /// The write-behind buffer; `Some` only with the durability `Interval`.
    pub(crate) write_behind: Option<WriteBehind>,
}

impl State {
    pub(crate) fn new(
        info: StoreInfo,
        clock: Arc<dyn Clock>,
        operation_timeout: Duration,
        durability: SledDurability,
    ) -> Self {
        let is_write_behind = matches!(durability, SledDurability::Interval(_));
        Self {
            info,
            health: Health::new(),
            tree: RwLock::new(None),
            sled_config: OnceLock::new(),
            clock,
            operation_timeout,
            changes: Hub::new(),
            messages: Hub::new(),
            counters: Counters::default(),
            write_behind: is_write_behind.then(WriteBehind::new),
        }
    }

    /// Checks that the store is open and not poisoned.
    ///
    /// # Errors
    /// `Closed` after the store was closed, `Unavailable` while the store is poisoned.
    pub(crate) fn check_open(&self) -> Result<()> {
        self.health.check()
    }

    /// Poisons the store, and reports to the watchers that they get no changes from now on.
    pub(crate) fn poison(&self, poison: Poison) {
        if self.health.poison(poison) {
            self.changes.suspend(GapReason::Disconnected);
        }
    }

    /// Poisons the store because its worker hangs, and reports to the watchers that they get no changes from now on.
    pub(crate) fn mark_hung(&self) {
        if self.health.mark_hung() {
            self.changes.suspend(GapReason::Disconnected);
        }
    }

    /// Closes the store for all clones: later calls fail, and the streams end.
    pub(crate) fn close(&self) {
        self.health.close();
        self.changes.close();
        self.messages.close();
    }

    /// True if one of sled's background threads has failed.
    pub(crate) fn has_sled_failed(&self) -> bool {
        self.sled_config.get().is_some_and(|config| config.global_error().is_err())
    }
}

/// Omits the tree, because its `Debug` implementation prints all stored data.
impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            info,
            health,
            tree: _,
            sled_config: _,
            clock,
            operation_timeout,
            changes: _,
            messages: _,
            counters,
            write_behind: _,
        } = self;
        f.debug_struct("State")
            .field("info", info)
            .field("health", health)
            .field("clock", clock)
            .field("operation_timeout", operation_timeout)
            .field("counters", counters)
            .finish_non_exhaustive()
    }
}
