//! Watching changes.

use kv_core::hub::{Changes, Inbox};
use kv_core::{Result, WatchQuery};

use crate::state::State;

impl State {
    /// Subscribes a watcher to the changes of a query.
    pub(crate) fn watch(&self, query: &WatchQuery) -> Result<Inbox<Changes>> {
        query.check(&self.info.capabilities)?;
        self.check_open()?;
        Ok(self.changes.subscribe(query.target.prefix()))
    }
}
