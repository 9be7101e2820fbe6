//! Stores that take the absence of their backend for something else, or do not find back.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use kv_core::{
    Clock, DeleteOptions, DeleteOutcome, Entry, Error, ErrorKind, GapReason, IncrementOptions, Key, KeyPrefix, KvStore,
    MessageEvent, MessageStream, Result, SetOptions, SetOutcome, SystemClock, Version, WatchEvent, WatchQuery,
    WatchStream, delegate_store,
};

use super::faults;

faults! { outage:
    hangs: "E-2" "waits for ever where the backend does not answer, as tokio-postgres does alone"
        ["outage/calls_end_in_time"]
        |inner, _clock| Away { inner, reads: |_| None, writes: Some };
    absence_is_an_answer: "E-1" "takes an outage for a missing key"
        ["outage/reads_are_not_answered"]
        |inner, _clock| Away { inner, reads: |_| Some(Ok(None)), writes: Some };
    outages_are_damage: "E-1" "takes a reply that was cut off for damaged data, as the redis crate does"
        ["outage/errors_say_what_to_do"]
        |inner, _clock| Away { inner, reads: |_| Some(Err(Error::corrupt("the reply makes no sense"))), writes: Some };
    perhaps_is_no: "E-1" "says that nothing happened where a write timed out after it was sent"
        ["outage/writes_tell_what_became_of_them"]
        |inner, _clock| Away {
            inner,
            reads: |error| Some(Err(error)),
            writes: |_| Some(Error::unavailable("the write timed out")),
        };
    perhaps_has_no_name: "E-1" "does not say which version a write would have given that may have happened"
        ["outage/writes_tell_what_became_of_them"]
        |inner, _clock| Away {
            inner,
            reads: |error| Some(Err(error)),
            writes: |error| Some(if error.maybe_applied() { Error::indeterminate(None, "the write timed out") } else { error }),
        };
    never_connects_again: "E-2" "keeps the connection that was lost"
        ["outage/the_same_handle_works_again"]
        |inner, _clock| Lost { inner, is_lost: AtomicBool::new(false) };
    another_database: "G-2" "connects again without choosing its database, and works in another"
        ["outage/it_finds_its_entries_again"]
        |inner, _clock| Elsewhere { inner, is_elsewhere: AtomicBool::new(false) };
    increments_are_sent_again: "C-1" "repeats an increment that timed out, applied or not"
        ["outage/increments_count_once"]
        |inner, _clock| Repeating { inner };
    watches_end_silently: "W-3" "does not listen again after the connection was lost, and does not say so"
        ["outage/watchers_are_told"]
        |inner, _clock| Deaf { inner };
    subscriptions_end_silently: "P-1" "does not subscribe again after the connection was lost, and does not say so"
        ["outage/subscribers_are_told"]
        |inner, _clock| Unsubscribed { inner };
    writes_wait_in_memory: "E-1" "acknowledges a write that the backend did not take, to send it later, and forgets it"
        ["outage/errors_say_what_to_do", "outage/writes_tell_what_became_of_them"]
        |inner, _clock| Buffering { inner };
    reads_stay_behind: "G-2" "reads from a copy of its own since the connection was lost, and does not hear of changes any more"
        ["outage/histories_are_linearizable", "outage/histories_with_conditions_are_linearizable"]
        |inner, _clock| Remembering { inner, was_away: AtomicBool::new(false), copy: Mutex::default() };
}

/// Whether the error says that the backend is away.
fn is_away(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Indeterminate { .. })
}

/// What a read comes to while the backend is away; `None` for ever.
type Reads = fn(Error) -> Option<Result<Option<Entry>>>;

/// Says something else than that the backend is away.
struct Away {
    inner: Arc<dyn KvStore>,
    reads: Reads,
    /// What a write comes to while the backend is away.
    writes: fn(Error) -> Option<Error>,
}

impl std::fmt::Debug for Away {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Away").finish_non_exhaustive()
    }
}

#[async_trait]
impl KvStore for Away {
    delegate_store!(self.inner, except get get_many set set_many);

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        match self.inner.get(key).await {
            Err(error) if is_away(&error) => match (self.reads)(error) {
                Some(answer) => answer,
                None => std::future::pending().await,
            },
            answer => answer,
        }
    }

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        match self.inner.set(key, value, options).await {
            Err(error) if is_away(&error) => match (self.writes)(error) {
                Some(error) => Err(error),
                None => std::future::pending().await,
            },
            outcome => outcome,
        }
    }
}

#[derive(Debug)]
struct Lost {
    inner: Arc<dyn KvStore>,
    is_lost: AtomicBool,
}

#[async_trait]
impl KvStore for Lost {
    delegate_store!(self.inner, except get get_many);

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        if self.is_lost.load(Ordering::Relaxed) {
            return Err(Error::unavailable("the connection is closed"));
        }
        let answer = self.inner.get(key).await;
        self.is_lost.store(answer.as_ref().err().is_some_and(is_away), Ordering::Relaxed);
        answer
    }
}

#[derive(Debug)]
struct Elsewhere {
    inner: Arc<dyn KvStore>,
    is_elsewhere: AtomicBool,
}

impl Elsewhere {
    fn place(&self, key: &Key) -> Key {
        let elsewhere = || key.child("elsewhere").unwrap_or_else(|_| key.clone());
        if self.is_elsewhere.load(Ordering::Relaxed) { elsewhere() } else { key.clone() }
    }

    fn note<T>(&self, result: Result<T>) -> Result<T> {
        if result.as_ref().err().is_some_and(is_away) {
            self.is_elsewhere.store(true, Ordering::Relaxed);
        }
        result
    }
}

#[async_trait]
impl KvStore for Elsewhere {
    delegate_store!(self.inner, except get get_many set set_many delete delete_many contains);

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        let result = self.inner.get(&self.place(key)).await;
        self.note(result)
    }

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        let result = self.inner.set(&self.place(key), value, options).await;
        self.note(result)
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
        let result = self.inner.delete(&self.place(key), options).await;
        self.note(result)
    }
}

#[derive(Debug)]
struct Repeating {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for Repeating {
    delegate_store!(self.inner, except increment);

    async fn increment(&self, key: &Key, by: i64, options: &IncrementOptions) -> Result<i64> {
        loop {
            match self.inner.increment(key, by, options).await {
                Err(error) if error.maybe_applied() => SystemClock.sleep(Duration::from_millis(1)).await,
                sum => return sum,
            }
        }
    }
}

#[derive(Debug)]
struct Deaf {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for Deaf {
    delegate_store!(self.inner, except watch);

    async fn watch(&self, query: &WatchQuery) -> Result<WatchStream> {
        let stream = self.inner.watch(query).await?;
        let heard = stream.take_while(|event| {
            let is_lost = matches!(event, Ok(WatchEvent::Gap { reason: GapReason::Reconnected }));
            std::future::ready(!is_lost)
        });
        Ok(Box::pin(heard.chain(futures_util::stream::pending())))
    }
}

#[derive(Debug)]
struct Unsubscribed {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for Unsubscribed {
    delegate_store!(self.inner, except subscribe);

    async fn subscribe(&self, channels: &KeyPrefix) -> Result<MessageStream> {
        let heard = self.inner.subscribe(channels).await?.take_while(|event| {
            let is_lost = matches!(event, Ok(MessageEvent::Gap { reason: GapReason::Reconnected }));
            std::future::ready(!is_lost)
        });
        Ok(Box::pin(heard.chain(futures_util::stream::pending())))
    }
}

#[derive(Debug)]
struct Buffering {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for Buffering {
    delegate_store!(self.inner, except set set_many);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        match self.inner.set(key, value, options).await {
            Err(error) if is_away(&error) => {
                Ok(SetOutcome::Stored { version: Some(Version::random()), previous: None })
            }
            outcome => outcome,
        }
    }
}

#[derive(Debug)]
struct Remembering {
    inner: Arc<dyn KvStore>,
    was_away: AtomicBool,
    /// What each key had when it was first read after that.
    copy: Mutex<HashMap<Key, Option<Entry>>>,
}

#[async_trait]
impl KvStore for Remembering {
    delegate_store!(self.inner, except get);

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        let read = self.inner.get(key).await;
        match read {
            Ok(entry) if self.was_away.load(Ordering::Relaxed) => {
                let mut copy = self.copy.lock().unwrap_or_else(PoisonError::into_inner);
                Ok(copy.entry(key.clone()).or_insert(entry).clone())
            }
            Err(error) if is_away(&error) => {
                self.was_away.store(true, Ordering::Relaxed);
                Err(error)
            }
            read => read,
        }
    }
}
