//! Watching changes.
//!
//! The writer notifies the watchers of this handle after each commit. The poller reads the changes of other handles
//! from the change log, and notifies the watchers of these changes.

use std::sync::Arc;

use kv_core::{Capability, ChangeSink, KvStore, Moment, Registration, Result, WatchQuery, WatchStream, WatchTarget};

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
    type Outcome = ();

    fn apply(&self, rows: &Rows<'_>) -> Result<(), Failure> {
        if self.0.is_shared { take_lease(&self.0, rows) } else { Ok(()) }
    }
}

/// Renews the lease of a handle. If the handle has no lease, or if its row is missing, takes a new lease.
pub(crate) fn take_lease(watchers: &Watchers, rows: &Rows<'_>) -> Result<(), Failure> {
    let is_renewed = change_log::renew_lease(rows.connection, rows.sql, watchers.handle_id)?;
    let is_held = watchers.lease.borrow().is_some();
    if !is_renewed || !is_held {
        watchers.start_lease(change_log::last_change(rows.connection, rows.sql)?);
    }
    if !is_renewed {
        change_log::insert_lease(rows.connection, rows.sql, watchers.handle_id)?;
    }
    Ok(())
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

    /// Registers a sink.
    ///
    /// A store in memory has one connection, and the writer calls the sink while it holds the lock of this connection.
    /// So the sink is current at once. The sink of a store in a file is current after the next poll.
    pub(crate) async fn watch_into(&self, target: &WatchTarget, sink: Arc<dyn ChangeSink>) -> Result<Registration> {
        let queue = self.queue()?;
        self.capabilities().require(Capability::Sinks)?;
        let Watchers { hub, is_shared, .. } = &self.watchers;
        if !is_shared {
            return Ok(hub.attach(target.clone(), sink, Some(Moment::now())));
        }
        let registration = hub.attach(target.clone(), sink, None);
        let counted = self.watchers.count_sink();
        queue.call(StartWatch(self.watchers.clone())).await?;
        Ok(Registration::new((registration, counted)))
    }
}
