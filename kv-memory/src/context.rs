//! What both engines need around them.

use std::sync::Arc;

use kv_core::hub::{Changes, Hub};
use kv_core::{Clock, Key};

use crate::slot::{Now, Slot};
use crate::sweep::Sweeper;

/// The store's clock, its watchers and its sweeper.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) changes: Hub<Changes>,
    pub(crate) sweeper: Sweeper,
}

impl Context {
    pub(crate) fn now(&self) -> Now<'_> {
        Now::new(&*self.clock)
    }

    /// Tells the watchers and, for a slot with a deadline, the sweeper. To be called after every change, when its lock was
    /// released, and before anything can drop the future.
    pub(crate) fn changed(&self, key: &Key, is_passing: bool) {
        self.changes.notify(key);
        if is_passing {
            self.sweeper.wake();
        }
    }
}

/// What a change did, as far as [`Context::changed`] and the owner of the old value want to know.
#[derive(Debug, Default)]
pub(crate) struct Changed {
    pub(crate) happened: bool,
    /// Whether what is there now has a deadline.
    pub(crate) is_passing: bool,
    /// What was there: dropped outside of the lock, for a value may be large.
    #[expect(dead_code, reason = "it is kept to be dropped later")]
    pub(crate) left: Option<Slot>,
}
