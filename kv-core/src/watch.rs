//! Watching stored keys change.

use std::pin::Pin;

use futures_util::{Stream, stream};

use crate::capability::{Capabilities, Capability};
use crate::entry::Entry;
use crate::error::{ErrorKind, Result};
use crate::hub::{Changes, Delivery, Inbox};
use crate::key::{Key, KeyPrefix};
use crate::list::{ListPage, ListQuery};
use crate::store::KvStore;

/// What to watch.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum WatchTarget {
    /// Every key that this covers.
    Prefix(KeyPrefix),
    /// This key alone.
    Key(Key),
}

impl WatchTarget {
    /// Whether changes of the key are wanted.
    pub fn covers(&self, key: &Key) -> bool {
        match self {
            Self::Prefix(prefix) => prefix.covers(key),
            Self::Key(wanted) => wanted == key,
        }
    }

    /// The narrowest prefix that covers the target.
    pub fn prefix(&self) -> KeyPrefix {
        match self {
            Self::Prefix(prefix) => prefix.clone(),
            Self::Key(key) => key.into(),
        }
    }
}

/// What a watcher hears before the changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Initial {
    /// Nothing.
    #[default]
    None,
    /// Every live entry as a `Set`, and then `SnapshotEnd`. Needs the list capability for a prefix.
    Snapshot,
}

/// Which changes to watch (clauses W-1 to W-4).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WatchQuery {
    /// What to watch.
    pub target: WatchTarget,
    /// What to hear first.
    pub initial: Initial,
    /// Whether a `Set` comes without its entry, which is then not read.
    pub keys_only: bool,
}

impl WatchQuery {
    /// The changes of every key under the prefix.
    pub fn prefix(prefix: impl Into<KeyPrefix>) -> Self {
        Self { target: WatchTarget::Prefix(prefix.into()), initial: Initial::None, keys_only: false }
    }

    /// The changes of one key.
    pub fn key(key: Key) -> Self {
        Self { target: WatchTarget::Key(key), initial: Initial::None, keys_only: false }
    }

    /// What is there first.
    #[must_use]
    pub fn with_snapshot(mut self) -> Self {
        self.initial = Initial::Snapshot;
        self
    }

    /// Without entries.
    #[must_use]
    pub fn with_keys_only(mut self) -> Self {
        self.keys_only = true;
        self
    }

    /// Refuses what the store cannot do. Every adapter calls it first.
    ///
    /// # Errors
    /// `Unsupported` without watch, or for a snapshot of a prefix without list.
    pub fn check(&self, capabilities: &Capabilities) -> Result<()> {
        capabilities.require(Capability::Watch)?;
        match (&self.target, self.initial) {
            (WatchTarget::Prefix(_), Initial::Snapshot) => capabilities.require(Capability::List),
            _ => Ok(()),
        }
    }
}

/// Why a watcher or a subscriber may have missed something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GapReason {
    /// It did not keep up.
    Lagged,
    /// The connection to the backend was lost and made again.
    Reconnected,
    /// Everything was removed at once.
    Flushed,
}

/// What a watcher hears. Several writes of a key may come as one event, with what the last one left.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum WatchEvent {
    /// The key has a live entry that was written or touched.
    Set {
        /// The key.
        key: Key,
        /// What `get` shows, unless the query wanted keys only.
        entry: Option<Entry>,
    },
    /// The key has no live entry any more: it was deleted, or expired.
    Removed {
        /// The key.
        key: Key,
    },
    /// Everything that was there at the call has been told.
    SnapshotEnd,
    /// Changes may have been lost here: read again what matters.
    Gap {
        /// Why.
        reason: GapReason,
    },
}

/// What `watch` gives; it ends when the store is closed, and dropping it ends the watch.
pub type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchEvent>> + Send>>;

/// The stream of a watch over an [`Inbox`] of changed keys: each is read again when the watcher gets to it, so that reports
/// of a key never go back in time and a slow watcher holds keys, never values.
///
/// The inbox must have been subscribed, to [`WatchTarget::prefix`], before the call.
pub fn follow<S: KvStore>(store: S, query: WatchQuery, inbox: Inbox<Changes>) -> WatchStream {
    let phase = match query.initial {
        Initial::Snapshot => Phase::Read { resume: None },
        Initial::None => Phase::Live,
    };
    let follower = Follower { store, query, inbox, phase };
    Box::pin(stream::unfold(follower, |mut follower| async move { Some((follower.next().await?, follower)) }))
}

struct Follower<S> {
    store: S,
    query: WatchQuery,
    inbox: Inbox<Changes>,
    phase: Phase,
}

enum Phase {
    /// The next page of the snapshot is to be read.
    Read { resume: Option<Key> },
    /// The rest of this page is to be told.
    Tell { rest: std::vec::IntoIter<crate::list::ListItem>, next: Option<Key> },
    /// Changes are told.
    Live,
    /// Nothing more comes.
    Ended,
}

impl<S: KvStore> Follower<S> {
    async fn next(&mut self) -> Option<Result<WatchEvent>> {
        loop {
            match &mut self.phase {
                Phase::Read { resume } => {
                    let resume = resume.take();
                    match self.page(resume).await {
                        Ok(page) => self.phase = Phase::Tell { rest: page.items.into_iter(), next: page.next },
                        Err(error) => {
                            self.phase = Phase::Ended;
                            return Some(Err(error));
                        }
                    }
                }
                Phase::Tell { rest, next } => match (rest.next(), next.take()) {
                    (Some(item), after) => {
                        *next = after;
                        return Some(Ok(WatchEvent::Set { key: item.key, entry: item.entry }));
                    }
                    (None, Some(resume)) => self.phase = Phase::Read { resume: Some(resume) },
                    (None, None) => {
                        self.phase = Phase::Live;
                        return Some(Ok(WatchEvent::SnapshotEnd));
                    }
                },
                Phase::Live => match self.inbox.next().await? {
                    Delivery::Gap(reason) => return Some(Ok(WatchEvent::Gap { reason })),
                    Delivery::Item(key) if self.query.target.covers(&key) => return self.report(key).await,
                    Delivery::Item(_) => {}
                },
                Phase::Ended => return None,
            }
        }
    }

    /// What is under the changed key now.
    async fn report(&mut self, key: Key) -> Option<Result<WatchEvent>> {
        let read = if self.query.keys_only {
            self.store.contains(&key).await.map(|is_there| is_there.then_some(None))
        } else {
            self.store.get(&key).await.map(|entry| entry.map(Some))
        };
        match read {
            Ok(Some(entry)) => Some(Ok(WatchEvent::Set { key, entry })),
            Ok(None) => Some(Ok(WatchEvent::Removed { key })),
            Err(error) => match error.kind() {
                ErrorKind::Closed => {
                    self.phase = Phase::Ended;
                    None
                }
                // The change is lost to this watcher, and it is told so.
                _ if error.is_retryable() => Some(Ok(WatchEvent::Gap { reason: GapReason::Reconnected })),
                _ => Some(Err(error)),
            },
        }
    }

    async fn page(&self, resume: Option<Key>) -> Result<ListPage> {
        match &self.query.target {
            WatchTarget::Prefix(prefix) => {
                let mut list = ListQuery::new(prefix.clone());
                list.after = resume;
                list.keys_only = self.query.keys_only;
                self.store.list(&list).await
            }
            WatchTarget::Key(key) => {
                let entry = self.store.get(key).await?;
                let items = entry.into_iter().map(|entry| {
                    let entry = (!self.query.keys_only).then_some(entry);
                    crate::list::ListItem { key: key.clone(), entry }
                });
                Ok(ListPage { items: items.collect(), next: None })
            }
        }
    }
}
