//! Queries and events of watching stored keys.

use std::pin::Pin;

use futures_util::Stream;

use crate::capabilities::Capabilities;
use crate::capability::Capability;
use crate::entry::Entry;
use crate::error::Result;
use crate::key::{Key, KeyPrefix};

/// The keys to watch.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum WatchTarget {
    /// All keys under this prefix.
    Prefix(KeyPrefix),
    /// Only this key.
    Key(Key),
}

impl WatchTarget {
    /// True if the key is watched.
    pub fn covers(&self, key: &Key) -> bool {
        match self {
            Self::Prefix(prefix) => prefix.covers(key),
            Self::Key(wanted) => wanted == key,
        }
    }

    /// Returns the narrowest prefix that covers the watched keys.
    pub fn prefix(&self) -> KeyPrefix {
        match self {
            Self::Prefix(prefix) => prefix.clone(),
            Self::Key(key) => key.into(),
        }
    }
}

impl From<KeyPrefix> for WatchTarget {
    fn from(prefix: KeyPrefix) -> Self {
        Self::Prefix(prefix)
    }
}

/// The events that a watch sends before the changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Initial {
    /// No events.
    #[default]
    None,
    /// One `Set` for every live entry, then `SnapshotEnd`. For a prefix, the store needs the list capability.
    Snapshot,
}

/// The content of the events of a watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Report {
    /// `Set` events with entries, and `Removed` events. The store reads the entry of each changed key.
    #[default]
    Entries,
    /// `Set` events without entries, and `Removed` events. The store only checks that each changed key has an entry.
    Keys,
    /// `Changed` events. The store reads nothing.
    Changes,
}

/// A query for the changes of keys (clauses W-1 to W-8).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WatchQuery {
    /// The keys to watch.
    pub target: WatchTarget,
    /// The events that are sent before the changes.
    pub initial: Initial,
    /// The content of the events.
    pub report: Report,
}

impl WatchQuery {
    /// Creates a query for all keys under the prefix.
    pub fn prefix(prefix: impl Into<KeyPrefix>) -> Self {
        Self { target: WatchTarget::Prefix(prefix.into()), initial: Initial::None, report: Report::Entries }
    }

    /// Creates a query for one key.
    pub fn key(key: Key) -> Self {
        Self { target: WatchTarget::Key(key), initial: Initial::None, report: Report::Entries }
    }

    /// Asks for the current entries first.
    #[must_use]
    pub fn with_snapshot(mut self) -> Self {
        self.initial = Initial::Snapshot;
        self
    }

    /// Sets the content of the events.
    #[must_use]
    pub fn with_report(mut self, report: Report) -> Self {
        self.report = report;
        self
    }

    /// Asks for events without entries: [`Report::Keys`].
    #[must_use]
    pub fn with_keys_only(self) -> Self {
        self.with_report(Report::Keys)
    }

    /// Checks that the store supports this query. Every adapter calls this method before any I/O.
    ///
    /// # Errors
    /// `Unsupported` without the watch capability, or for a snapshot of a prefix without the list capability.
    pub fn check(&self, capabilities: &Capabilities) -> Result<()> {
        capabilities.require(Capability::Watch)?;
        match (&self.target, self.initial) {
            (WatchTarget::Prefix(_), Initial::Snapshot) => capabilities.require(Capability::List),
            _ => Ok(()),
        }
    }
}

/// The reason why a watcher or a subscriber may have missed an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GapReason {
    /// The queue was full because the receiver was too slow, or the receiver failed.
    Lagged,
    /// The connection to the backend was lost and made again.
    Reconnected,
    /// The backend removed everything at once.
    Flushed,
    /// The connection to the backend was lost.
    Disconnected,
    /// No heartbeat was answered within [`watch_loss_bound`](crate::StoreInfo::watch_loss_bound).
    Unanswered,
    /// The server that reports changes is no longer the server that serves reads: after a failover, a demotion, or the
    /// move of a part of the keys.
    ServerChanged,
    /// The backend did not report changes for a time, because its reports were switched off or removed.
    NotReported,
    /// The store was closed. Only a [`ChangeSink`](crate::ChangeSink) gets this reason; a stream ends.
    Closed,
}

/// An event of a watch. Several writes of a key may be reported as one event with the latest state.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum WatchEvent {
    /// The key has a live entry. The entry was written or touched.
    Set {
        /// The key.
        key: Key,
        /// The current entry as `get` returns it, if the query asked for entries.
        entry: Option<Entry>,
    },
    /// The key has no live entry any more: it was deleted or has expired.
    Removed {
        /// The key.
        key: Key,
    },
    /// The key was written, touched or removed, or it expired. Only a query for [`Report::Changes`] gets this event.
    Changed {
        /// The key.
        key: Key,
    },
    /// All entries that existed when the watch began have been sent.
    SnapshotEnd,
    /// Changes are possibly not reported from now on. This event is advisory: it may be false, and it may be missing.
    /// The next event about the loss is a `Gap`, or the stream ends.
    Suspended {
        /// The cause.
        reason: GapReason,
    },
    /// Changes may have been lost at this point. The watcher must read again the keys that it depends on.
    Gap {
        /// The cause.
        reason: GapReason,
    },
}

/// A watch's events. The stream ends when the store is closed. The watch ends when the stream is dropped.
pub type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchEvent>> + Send>>;
