//! Watching changes.
//!
//! The writer notifies the watchers of this handle after each commit. The poller reads the changes of other handles
//! from the change log, and notifies the watchers of these changes.

use kv_core::{KvStore, Result, WatchQuery, WatchStream};

use crate::change_log;
use crate::error::Failure;
use crate::state::State;
use crate::watchers::Watchers;
use crate::writer::job::Write;
use crate::writer::rows::Rows;

/// Takes the lease for a new watcher. The writer runs this like a write, so that the watcher is notified of every write
/// that is acknowledged afterwards.
#[derive(Debug)]
struct StartWatch(Watchers);

impl Write for StartWatch {
    /// The last sequence number that a new lease does not cover; `None` if the handle already had a lease or needs no
    /// lease.
    type Outcome = Option<i64>;

    fn apply(&self, rows: &Rows<'_>) -> Result<Option<i64>, Failure> {
        if !self.0.is_shared {
            return Ok(None);
        }
        Ok(change_log::take_lease(rows.connection, rows.sql, self.0.handle_id)?)
    }

    fn committed(&self, outcome: &Option<i64>) {
        if let Some(after) = outcome {
            self.0.start_lease(*after);
        }
    }
}

impl State {
    /// Watches the keys of a query. The stream reads each changed key through `store`, a handle on this state.
    pub(crate) async fn watch(&self, store: impl KvStore, query: &WatchQuery) -> Result<WatchStream> {
        let queue = self.queue()?;
        query.check(self.capabilities())?;
        let inbox = self.watchers.hub.subscribe(query.target.clone());
        queue.call(StartWatch(self.watchers.clone())).await?;
        Ok(kv_core::follow(store, query.clone(), inbox))
    }
}
