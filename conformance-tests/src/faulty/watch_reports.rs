//! False reports to watchers, and watchers that block writers.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use kv_core::{
    DeleteOptions, DeleteOutcome, Entry, Key, KvStore, Result, SetOptions, SetOutcome, WatchEvent, WatchQuery,
    WatchStream, delegate_store,
};
use tokio::sync::{Semaphore, broadcast};

use super::faults;
use super::hidden::Hidden;

faults! { watch_reports:
    /// Reports a write before its condition is evaluated, even if the condition then does not hold.
    refused_sets_are_reported: "W-2"
        ["watch/refused_write_is_not_reported", "watch_changes/refused_writes_are_no_changes"]
        |inner, _clock| FalseReports { inner, kind: FalseReport::RefusedSets, sender: broadcast::Sender::new(64) };
    /// Reports the delete of a missing key.
    deletes_of_missing_keys_are_reported: "W-2"
        ["watch/delete_of_nothing_is_not_reported"]
        |inner, _clock| FalseReports { inner, kind: FalseReport::MissingDeletes, sender: broadcast::Sender::new(64) };
    /// Waits for space in the queue of a slow watcher, as sled's subscribers do.
    slow_watcher_blocks_writers: "W-3"
        ["watch_loss/watchers_converge", "watch_loss/overwrites_end_with_the_last",
         "watch_loss/slow_watcher_disturbs_no_other"]
        |inner, _clock| BlockedWriters { inner, queues: Hidden::default() };
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FalseReport {
    RefusedSets,
    MissingDeletes,
}

/// Sends false reports to watchers, in addition to the reports of the good store.
#[derive(Debug)]
struct FalseReports {
    inner: Arc<dyn KvStore>,
    kind: FalseReport,
    sender: broadcast::Sender<WatchEvent>,
}

#[async_trait]
impl KvStore for FalseReports {
    delegate_store!(self.inner, except set set_many delete watch);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        let outcome = self.inner.set(key, value.clone(), options).await?;
        if let (FalseReport::RefusedSets, SetOutcome::Refused { .. }) = (self.kind, &outcome) {
            let _ = self.sender.send(WatchEvent::Set { key: key.clone(), entry: Some(Entry::new(value)) });
        }
        Ok(outcome)
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
        let outcome = self.inner.delete(key, options).await?;
        if let (FalseReport::MissingDeletes, DeleteOutcome::Missing) = (self.kind, &outcome) {
            let _ = self.sender.send(WatchEvent::Removed { key: key.clone() });
        }
        Ok(outcome)
    }

    async fn watch(&self, query: &WatchQuery) -> Result<WatchStream> {
        let target = query.target.clone();
        let received = stream::unfold(self.sender.subscribe(), |mut receiver| async move {
            Some((receiver.recv().await.ok()?, receiver))
        });
        let false_reports = received.filter_map(move |event| {
            let is_wanted = match &event {
                WatchEvent::Set { key, .. } | WatchEvent::Removed { key } => target.covers(key),
                _ => false,
            };
            std::future::ready(is_wanted.then_some(Ok(event)))
        });
        // False reports come before pending reports of the good store, and end with them.
        let reports = self.inner.watch(query).await?.map(Some).chain(stream::once(std::future::ready(None)));
        let both = stream::select_with_strategy(false_reports.map(Some), reports, |(): &mut ()| stream::PollNext::Left);
        Ok(Box::pin(both.take_while(|event| std::future::ready(event.is_some())).filter_map(std::future::ready)))
    }
}

/// A write takes a slot in the queue of every watcher, and waits while a queue is full.
#[derive(Debug)]
struct BlockedWriters {
    inner: Arc<dyn KvStore>,
    queues: Hidden<Vec<Arc<Semaphore>>>,
}

impl BlockedWriters {
    const CAPACITY: usize = 64;
}

#[async_trait]
impl KvStore for BlockedWriters {
    delegate_store!(self.inner, except set set_many watch);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        let queues = self.queues.lock().clone();
        for queue in queues {
            // The queue of a dropped watcher is closed.
            if let Ok(slot) = queue.acquire().await {
                slot.forget();
            }
        }
        self.inner.set(key, value, options).await
    }

    async fn watch(&self, query: &WatchQuery) -> Result<WatchStream> {
        /// Closes the queue when the stream is dropped.
        struct CloseOnDrop(Arc<Semaphore>);
        impl Drop for CloseOnDrop {
            fn drop(&mut self) {
                self.0.close();
            }
        }
        let queue = Arc::new(Semaphore::new(Self::CAPACITY));
        let slots = CloseOnDrop(Arc::clone(&queue));
        let events = self.inner.watch(query).await?;
        self.queues.lock().push(queue);
        Ok(Box::pin(events.inspect(move |_| slots.0.add_permits(1))))
    }
}
