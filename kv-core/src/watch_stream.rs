//! The event stream of a watch over the changed keys of a hub.

use futures_util::stream;
use tokio::task::coop::consume_budget;

use crate::error::{ErrorKind, Result};
use crate::hub::{Changes, Delivery, Inbox};
use crate::key::Key;
use crate::list::{ListItem, ListPage, ListQuery};
use crate::store::KvStore;
use crate::watch::{GapReason, Initial, Report, WatchEvent, WatchQuery, WatchStream, WatchTarget};

/// Creates the stream of a watch from an [`Inbox`] of changed keys.
///
/// The stream reads the entry of a changed key only when the watcher polls for it. Therefore reports of a key never go
/// back in time, and a slow watcher holds keys but no values.
///
/// The inbox must be subscribed to the target of the query before the call.
pub fn follow<S: KvStore>(store: S, query: WatchQuery, inbox: Inbox<Changes>) -> WatchStream {
    let phase = match query.initial {
        Initial::Snapshot => Phase::FetchPage { resume: None },
        Initial::None => Phase::Live,
    };
    let watcher = Watcher { store, query, inbox, phase };
    Box::pin(stream::unfold(watcher, |mut watcher| async move { Some((watcher.next().await?, watcher)) }))
}

struct Watcher<S> {
    store: S,
    query: WatchQuery,
    inbox: Inbox<Changes>,
    phase: Phase,
}

enum Phase {
    /// The next page of the snapshot must be read.
    FetchPage { resume: Option<Key> },
    /// The remaining items of a snapshot page are sent.
    SendPage { rest: std::vec::IntoIter<Result<ListItem>>, next: Option<Key> },
    /// Changes are sent.
    Live,
    /// The stream has ended.
    Ended,
}

impl<S: KvStore> Watcher<S> {
    async fn next(&mut self) -> Option<Result<WatchEvent>> {
        loop {
            if matches!(self.phase, Phase::SendPage { .. }) {
                // The items of a page are always ready. A long page would block the other tasks of its thread.
                consume_budget().await;
            }
            match &mut self.phase {
                Phase::FetchPage { resume } => {
                    let resume = resume.take();
                    match self.page(resume).await {
                        Ok(page) => {
                            let next = page.next.clone();
                            let rest = page.into_results(false).collect::<Vec<_>>().into_iter();
                            self.phase = Phase::SendPage { rest, next };
                        }
                        Err(error) => {
                            self.phase = Phase::Ended;
                            return Some(Err(error));
                        }
                    }
                }
                Phase::SendPage { rest, next } => match (rest.next(), next.take()) {
                    (Some(item), after) => {
                        *next = after;
                        return Some(item.map(|item| WatchEvent::Set { key: item.key, entry: item.entry }));
                    }
                    (None, Some(resume)) => self.phase = Phase::FetchPage { resume: Some(resume) },
                    (None, None) => {
                        self.phase = Phase::Live;
                        return Some(Ok(WatchEvent::SnapshotEnd));
                    }
                },
                Phase::Live => match self.inbox.next().await? {
                    Delivery::Suspended(reason) => return Some(Ok(WatchEvent::Suspended { reason })),
                    Delivery::Gap(reason) => return Some(Ok(WatchEvent::Gap { reason })),
                    Delivery::Item(key) if self.query.target.covers(&key) => return self.report(key).await,
                    Delivery::Item(_) => {}
                },
                Phase::Ended => return None,
            }
        }
    }

    /// Reports the current state of a changed key.
    async fn report(&mut self, key: Key) -> Option<Result<WatchEvent>> {
        let read = match self.query.report {
            Report::Entries => self.store.get(&key).await.map(|entry| entry.map(Some)),
            Report::Keys => self.store.contains(&key).await.map(|is_there| is_there.then_some(None)),
            Report::Changes => return Some(Ok(WatchEvent::Changed { key })),
        };
        match read {
            Ok(Some(entry)) => Some(Ok(WatchEvent::Set { key, entry })),
            Ok(None) => Some(Ok(WatchEvent::Removed { key })),
            Err(error) => match error.kind() {
                ErrorKind::Closed => {
                    self.phase = Phase::Ended;
                    None
                }
                // The watcher misses this change, so it gets a gap.
                _ if error.is_retryable() => Some(Ok(WatchEvent::Gap { reason: GapReason::Reconnected })),
                _ => Some(Err(error)),
            },
        }
    }

    async fn page(&self, resume: Option<Key>) -> Result<ListPage> {
        let has_entries = self.query.report == Report::Entries;
        match &self.query.target {
            WatchTarget::Prefix(prefix) => {
                let mut list = ListQuery::new(prefix.clone());
                list.after = resume;
                list.keys_only = !has_entries;
                self.store.list(&list).await
            }
            WatchTarget::Key(key) => {
                let entry = self.store.get(key).await?;
                let items = entry.into_iter().map(|entry| {
                    let entry = has_entries.then_some(entry);
                    ListItem { key: key.clone(), entry }
                });
                Ok(ListPage { items: items.collect(), ..ListPage::default() })
            }
        }
    }
}
