//! The clock, the watchers and the sweeper, which both engines use.

use std::sync::Arc;

use kv_core::hub::{Changes, Hub};
use kv_core::{Clock, Key};

use crate::slot::Now;
use crate::sweeper::Sweeper;

/// The parts of a store that both engines use.
#[derive(Debug)]
pub(crate) struct Services {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) changes: Hub<Changes>,
    pub(crate) sweeper: Sweeper,
}

impl Services {
    pub(crate) fn now(&self) -> Now<'_> {
        Now::new(&*self.clock)
    }

    /// Notifies the watchers of a change, and wakes the sweeper if the new slot has a deadline. Every write that
    /// changes a slot must call this method after it has released the lock of the shard or slot. The write must call it
    /// before the next `.await`, because a caller may drop the future at an `.await`.
    pub(crate) fn notify(&self, key: &Key, has_deadline: bool) {
        self.changes.notify(key);
        if has_deadline {
            self.sweeper.wake();
        }
    }
}
