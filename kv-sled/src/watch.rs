//! Watching changes.

use std::sync::Arc;

use kv_core::{
    Capability, ChangeSink, KvStore, Moment, Registration, Result, WatchQuery, WatchStream, WatchTarget, follow,
};

use crate::state::State;

impl State {
    /// Subscribes to the changes of a query. The stream reads each changed key through `store`, a handle of this state.
    pub(crate) fn watch(&self, store: impl KvStore, query: &WatchQuery) -> Result<WatchStream> {
        self.check_open()?;
        query.check(&self.info.capabilities)?;
        let inbox = self.changes.subscribe(query.target.clone());
        // Checked again: the subscriber is told if the store is poisoned from now on, and not if it was poisoned before.
        self.check_open()?;
        Ok(follow(store, query.clone(), inbox))
    }

    /// Registers a sink. It is current from the call on, because every write calls it before a read can return the
    /// change.
    pub(crate) fn watch_into(&self, target: &WatchTarget, sink: Arc<dyn ChangeSink>) -> Result<Registration> {
        self.check_open()?;
        self.info.capabilities.require(Capability::Sinks)?;
        let registration = self.changes.attach(target.clone(), sink, Some(Moment::now()));
        // Checked again: the sink is told if the store is poisoned from now on, and not if it was poisoned before.
        self.check_open()?;
        Ok(registration)
    }
}
