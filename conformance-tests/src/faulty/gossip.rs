//! Watchers that hear of what did not happen, and watchers that hold up the writers.

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
use super::kept::Kept;

faults! { gossip:
    refusals_are_told: "W-2" "reports a write before it is judged, also where the condition then does not hold"
        ["watch/refused_write_is_not_reported"]
        |inner, _clock| Gossip { inner, of: Of::Refusals, rumours: broadcast::Sender::new(64) };
    deletes_of_nothing_are_told: "W-2" "reports the delete of a key that was not there"
        ["watch/delete_of_nothing_is_not_reported"]
        |inner, _clock| Gossip { inner, of: Of::Missing, rumours: broadcast::Sender::new(64) };
    a_slow_watcher_blocks_writers: "W-3" "waits for room in the queue of a watcher, as sled's subscribers do"
        ["watch_loss/watchers_converge", "watch_loss/overwrites_end_with_the_last",
         "watch_loss/slow_watcher_disturbs_no_other"]
        |inner, _clock| Blocking { inner, queues: Kept::default() };
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    Refusals,
    Missing,
}

/// Tells watchers more than the good store does.
#[derive(Debug)]
struct Gossip {
    inner: Arc<dyn KvStore>,
    of: Of,
    rumours: broadcast::Sender<WatchEvent>,
}

#[async_trait]
impl KvStore for Gossip {
    delegate_store!(self.inner, except set set_many delete watch);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        let outcome = self.inner.set(key, value.clone(), options).await?;
        if let (Of::Refusals, SetOutcome::Refused { .. }) = (self.of, &outcome) {
            let _ = self.rumours.send(WatchEvent::Set { key: key.clone(), entry: Some(Entry::new(value)) });
        }
        Ok(outcome)
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
        let outcome = self.inner.delete(key, options).await?;
        if let (Of::Missing, DeleteOutcome::Missing) = (self.of, &outcome) {
            let _ = self.rumours.send(WatchEvent::Removed { key: key.clone() });
        }
        Ok(outcome)
    }

    async fn watch(&self, query: &WatchQuery) -> Result<WatchStream> {
        let target = query.target.clone();
        let rumours = stream::unfold(self.rumours.subscribe(), |mut rumours| async move {
            Some((rumours.recv().await.ok()?, rumours))
        });
        let heard = rumours.filter_map(move |rumour| {
            let is_wanted = match &rumour {
                WatchEvent::Set { key, .. } | WatchEvent::Removed { key } => target.covers(key),
                _ => false,
            };
            std::future::ready(is_wanted.then_some(Ok(rumour)))
        });
        // Rumours come before what is waiting, and end with the store.
        let told = self.inner.watch(query).await?.map(Some).chain(stream::once(std::future::ready(None)));
        let both = stream::select_with_strategy(heard.map(Some), told, |(): &mut ()| stream::PollNext::Left);
        Ok(Box::pin(both.take_while(|event| std::future::ready(event.is_some())).filter_map(std::future::ready)))
    }
}

/// A write takes room in the queue of every watcher, and waits where there is none.
#[derive(Debug)]
struct Blocking {
    inner: Arc<dyn KvStore>,
    queues: Kept<Vec<Arc<Semaphore>>>,
}

impl Blocking {
    const ROOM: usize = 64;
}

#[async_trait]
impl KvStore for Blocking {
    delegate_store!(self.inner, except set set_many watch);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        let queues = self.queues.lock().clone();
        for queue in queues {
            // Where the watcher is gone, the queue is closed.
            if let Ok(room) = queue.acquire().await {
                room.forget();
            }
        }
        self.inner.set(key, value, options).await
    }

    async fn watch(&self, query: &WatchQuery) -> Result<WatchStream> {
        /// Ends the queue with the stream.
        struct Watching(Arc<Semaphore>);
        impl Drop for Watching {
            fn drop(&mut self) {
                self.0.close();
            }
        }
        let queue = Arc::new(Semaphore::new(Self::ROOM));
        let watching = Watching(Arc::clone(&queue));
        let events = self.inner.watch(query).await?;
        self.queues.lock().push(queue);
        Ok(Box::pin(events.inspect(move |_| watching.0.add_permits(1))))
    }
}
