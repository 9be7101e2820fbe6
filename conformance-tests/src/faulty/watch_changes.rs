//! Watches of changes with the wrong content, and losses that are announced and never reported.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::StreamExt;
use kv_core::{KvStore, Report, Result, WatchEvent, WatchQuery, WatchStream, delegate_store};

use super::faults;

faults! { watch_changes:
    /// Reads each changed key and reports sets and removals, although the watcher asked for changes.
    changes_are_sets: "W-2"
        ["watch_changes/changes_show_only_keys", "watch_changes/touches_are_changes",
         "watch_changes/snapshots_of_changes_have_no_entries"]
        |inner, _clock| ChangesAreSets { inner };
    /// Announces a lost connection, and goes on without a gap when it is made again.
    losses_are_only_announced: "W-6"
        ["watch_changes/no_silent_resumption"]
        |inner, _clock| OnlyAnnounced { inner };
}

#[derive(Debug)]
struct ChangesAreSets {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for ChangesAreSets {
    delegate_store!(self.inner, except watch);

    async fn watch(&self, query: &WatchQuery) -> Result<WatchStream> {
        let report = if query.report == Report::Changes { Report::Keys } else { query.report };
        self.inner.watch(&query.clone().with_report(report)).await
    }
}

#[derive(Debug)]
struct OnlyAnnounced {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for OnlyAnnounced {
    delegate_store!(self.inner, except watch);

    async fn watch(&self, query: &WatchQuery) -> Result<WatchStream> {
        let events = self.inner.watch(query).await?;
        Ok(Box::pin(events.map(|event| match event {
            Ok(WatchEvent::Gap { reason }) => Ok(WatchEvent::Suspended { reason }),
            event => event,
        })))
    }
}
