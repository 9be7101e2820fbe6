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

    /// Notifies the watchers of a change. Every write that changes a slot must call this method before it releases the
    /// lock of the shard or slot, because no read may return the new slot before the sinks know of the change (clause
    /// W-5).
    #[inline]
    pub(crate) fn notify(&self, key: &Key) {
        self.changes.notify(key);
    }
}
