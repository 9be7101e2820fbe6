//! Watching changes.

use std::sync::Arc;

use futures_util::StreamExt;
use kv_core::{
    Capability, ChangeSink, ErrorKind, KvStore, Registration, Result, WatchEvent, WatchQuery, WatchStream, WatchTarget,
};

use crate::error::read_error;
use crate::listener::hubs::Kind;
use crate::listener::task::listen;
use crate::state::State;

impl State {
    /// Returns the stream of a watch. The stream reads entries through `store`, a handle of this state.
    pub(crate) async fn watch(self: &Arc<Self>, store: impl KvStore, query: &WatchQuery) -> Result<WatchStream> {
        self.check_open()?;
        query.check(&self.info.capabilities)?;
        let inbox = self.hubs.watchers.changes.subscribe(query.target.clone());
        listen(self, Kind::Changes).await.map_err(read_error)?;
        let events = kv_core::follow(store, query.clone(), inbox);
        if !self.layout.entry_prefix.is_empty() {
            return Ok(events);
        }
        // With an empty namespace the server reports every key of the database. Values of other types are foreign, so
        // their keys must not become events. The stream returns `Corrupt` for these keys.
        let is_ours =
            |event: &Result<WatchEvent>| !event.as_ref().is_err_and(|error| matches!(error.kind(), ErrorKind::Corrupt));
        Ok(events.filter(move |event| std::future::ready(is_ours(event))).boxed())
    }

    /// Registers a sink. The sink is current when the call returns, because the listener sends a heartbeat for each call.
    pub(crate) async fn watch_into(
        self: &Arc<Self>,
        target: &WatchTarget,
        sink: Arc<dyn ChangeSink>,
    ) -> Result<Registration> {
        self.check_open()?;
        self.info.capabilities.require(Capability::Sinks)?;
        let registration = self.hubs.watchers.changes.attach(target.clone(), sink, None);
        listen(self, Kind::Changes).await.map_err(read_error)?;
        Ok(registration)
    }
}
