//! Watching changes.

use kv_core::{KvStore, Result, WatchQuery, WatchStream, follow};

use crate::state::State;

impl State {
    /// Subscribes to the changes of a query. The stream reads each changed key through `store`, a handle of this state.
    pub(crate) fn watch(&self, store: impl KvStore, query: &WatchQuery) -> Result<WatchStream> {
        self.check_open()?;
        query.check(&self.info.capabilities)?;
        let inbox = self.changes.subscribe(query.target.clone());
        Ok(follow(store, query.clone(), inbox))
    }
}
