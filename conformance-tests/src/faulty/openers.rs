//! Handles that disturb other handles when they open or close a store.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use kv_core::{
    DeleteOptions, DeleteOutcome, Entry, Error, Key, KeyPrefix, KvStore, MessageEvent, MessageStream, Result,
    SetOptions, SetOutcome, Version, WatchQuery, WatchStream, When, delegate_store,
};
use tokio::sync::{Mutex, OnceCell};

use super::faults;

faults! { openers:
    /// Creates its table if there is none, in two steps, and fails if another opener creates it between them.
    creation_is_a_race: "R-1"
        ["openers/sixteen_at_once"]
        |inner, _clock| Creates { inner, created: OnceCell::new() };
    /// Truncates the file that it opens.
    opening_truncates: "R-1"
        ["openers/the_second_sees_all", "restart/values_survive"]
        |inner, _clock| Truncates { inner, opened: OnceCell::new() };
    /// Takes the store over when it opens it, so that earlier handles can no longer write.
    newest_handle_takes_over: "R-1"
        ["openers/the_first_writes_on"]
        |inner, _clock| Announced::new(inner, Effect::EndsWrites);
    /// Ends the watches of all handles when it opens the store, because it creates the triggers again.
    opening_ends_watches: "R-1"
        ["openers/watches_go_on"]
        |inner, _clock| Announced::new(inner, Effect::EndsWatches);
}

#[derive(Debug)]
struct Creates {
    inner: Arc<dyn KvStore>,
    created: OnceCell<()>,
}

impl Creates {
    /// The entry that stands for the table.
    fn table() -> Result<Key> {
        Key::new(["\0table"])
    }

    async fn create(&self) -> Result<()> {
        if self.inner.contains(&Self::table()?).await? {
            return Ok(());
        }
        // Other openers run in between, as in the time of a round trip.
        for _ in 0..64 {
            tokio::task::yield_now().await;
        }
        let absent = SetOptions::default().with_when(When::Absent);
        match self.inner.set(&Self::table()?, Bytes::new(), &absent).await? {
            SetOutcome::Refused { .. } => Err(Error::unavailable("the table already exists")),
            SetOutcome::Stored { .. } => Ok(()),
        }
    }
}

#[async_trait]
impl KvStore for Creates {
    delegate_store!(self.inner, except set set_many);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        self.created.get_or_try_init(|| self.create()).await?;
        self.inner.set(key, value, options).await
    }
}

#[derive(Debug)]
struct Truncates {
    inner: Arc<dyn KvStore>,
    opened: OnceCell<()>,
}

impl Truncates {
    async fn open(&self) -> Result<()> {
        let truncate = || async { self.inner.clear(&KeyPrefix::ALL).await.map(drop) };
        self.opened.get_or_try_init(truncate).await.map(drop)
    }
}

#[async_trait]
impl KvStore for Truncates {
    delegate_store!(self.inner, except get get_many contains set set_many delete delete_many);

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        self.open().await?;
        self.inner.get(key).await
    }

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        self.open().await?;
        self.inner.set(key, value, options).await
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
        self.open().await?;
        self.inner.delete(key, options).await
    }
}

/// The effect of a handle that opens the store on the other handles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    EndsWrites,
    EndsWatches,
}

/// A handle that announces itself to the other handles at its first call.
struct Announced {
    inner: Arc<dyn KvStore>,
    effect: Effect,
    id: Version,
    /// The announcements of other handles.
    announcements: OnceCell<Mutex<MessageStream>>,
}

impl fmt::Debug for Announced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Announced").finish_non_exhaustive()
    }
}

impl Announced {
    fn new(inner: Arc<dyn KvStore>, effect: Effect) -> Self {
        Self { inner, effect, id: Version::random(), announcements: OnceCell::new() }
    }

    fn channel() -> Result<Key> {
        Key::new(["\0opened"])
    }

    async fn announcements(&self) -> Result<&Mutex<MessageStream>> {
        let announce = || async {
            let others = self.inner.subscribe(&Self::channel()?.into()).await?;
            self.inner.publish(&Self::channel()?, Bytes::copy_from_slice(self.id.as_bytes())).await?;
            Ok(Mutex::new(others))
        };
        self.announcements.get_or_try_init(announce).await
    }
}

/// True if the event is an announcement of another handle than this one.
fn is_of_other(event: &Result<MessageEvent>, id: Version) -> bool {
    matches!(event, Ok(MessageEvent::Message(message)) if message.payload != id.as_bytes())
}

#[async_trait]
impl KvStore for Announced {
    delegate_store!(self.inner, except get get_many set set_many watch);

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        self.announcements().await?;
        self.inner.get(key).await
    }

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        let mut others = self.announcements().await?.lock().await;
        while let Some(Some(event)) = others.next().now_or_never() {
            if self.effect == Effect::EndsWrites && is_of_other(&event, self.id) {
                return Err(Error::unavailable("another handle has taken the store over"));
            }
        }
        self.inner.set(key, value, options).await
    }

    async fn watch(&self, query: &WatchQuery) -> Result<WatchStream> {
        self.announcements().await?;
        let events = self.inner.watch(query).await?;
        if self.effect != Effect::EndsWatches {
            return Ok(events);
        }
        let id = self.id;
        let mut others = self.inner.subscribe(&Self::channel()?.into()).await?;
        let opened = Box::pin(async move {
            while let Some(event) = others.next().await {
                if is_of_other(&event, id) {
                    return;
                }
            }
        });
        Ok(Box::pin(events.take_until(opened)))
    }
}
