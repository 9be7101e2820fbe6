//! Watching changes: those of this handle at once, those of other handles from the change log.

use kv_core::hub::{Changes, Inbox};
use kv_core::{Result, WatchQuery};

use crate::change_log;
use crate::error::Abort;
use crate::state::State;
use crate::watchers::Watchers;
use crate::writer::job::Write;
use crate::writer::rows::Rows;

/// Takes the lease for a new watcher. It goes through the writer, so that the watcher is notified of every write that
/// is acknowledged after it.
#[derive(Debug)]
struct StartWatch(Watchers);

impl Write for StartWatch {
    type Outcome = Option<i64>;

    fn apply(&self, rows: &Rows<'_>) -> Result<Option<i64>, Abort> {
        if !self.0.is_shared {
            return Ok(None);
        }
        Ok(change_log::take_lease(rows.connection, rows.sql, self.0.handle)?)
    }

    fn committed(&self, outcome: &Option<i64>) {
        if let Some(after) = outcome {
            self.0.start_lease(*after);
        }
    }
}

impl State {
    /// Subscribes to the keys of a query. The inbox is live when this returns.
    pub(crate) async fn watch(&self, query: &WatchQuery) -> Result<Inbox<Changes>> {
        query.check(self.capabilities())?;
        let queue = self.queue()?;
        let inbox = self.watchers.hub.subscribe(query.target.prefix());
        queue.call(StartWatch(self.watchers.clone())).await?;
        Ok(inbox)
    }
}
