//! Watching changes.

use std::sync::Arc;

use kv_core::{
    Capability, ChangeSink, KvStore, Moment, Registration, Result, WatchQuery, WatchStream, WatchTarget, follow,
};

use crate::state::State;

impl State {
    /// Subscribes to the changes of a query. The stream reads each changed key through `store`, a handle of this state.
    pub(crate) async fn watch(&self, store: impl KvStore, query: &WatchQuery) -> Result<WatchStream> {
        self.admit(1).await?;
        query.check(&self.info.capabilities)?;
        let inbox = self.engine.services().changes.subscribe(query.target.clone());
        Ok(follow(store, query.clone(), inbox))
    }

    /// Registers a sink. It is current from the call on, because every write calls it before another read can return
    /// the change.
    pub(crate) async fn watch_into(&self, target: &WatchTarget, sink: Arc<dyn ChangeSink>) -> Result<Registration> {
        self.admit(1).await?;
        self.info.capabilities.require(Capability::Sinks)?;
        Ok(self.engine.services().changes.attach(target.clone(), sink, Some(Moment::now())))
    }
}
