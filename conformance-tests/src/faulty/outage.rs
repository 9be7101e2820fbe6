//! Stores that answer wrongly during an outage of their backend, or do not recover from it.

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
    /// Waits forever if the backend does not answer, as tokio-postgres does if the caller sets no timeout.
    calls_hang: "E-2"
        ["outage/calls_end_in_time"]
        |inner, _clock| WrongAnswer { inner, reads: |_| None, writes: Some };
    /// Reports a key as missing during an outage.
    outage_reads_as_missing: "E-1"
        ["outage/reads_are_not_answered"]
        |inner, _clock| WrongAnswer { inner, reads: |_| Some(Ok(None)), writes: Some };
    /// Reports a truncated response as corrupt data, as the redis crate does.
    outage_is_reported_as_corrupt: "E-1"
        ["outage/errors_say_what_to_do"]
        |inner, _clock| WrongAnswer {
            inner,
            reads: |_| Some(Err(Error::corrupt("the response is malformed"))),
            writes: Some,
        };
    /// Reports `Unavailable` for a write that timed out after it was sent.
    unanswered_write_is_reported_as_not_applied: "E-1"
        ["outage/writes_tell_what_became_of_them"]
        |inner, _clock| WrongAnswer {
            inner,
            reads: |error| Some(Err(error)),
            writes: |_| Some(Error::unavailable("the write timed out")),
        };
    /// Does not report the attempted version of a write that may have been applied.
    unanswered_write_has_no_version: "E-1"
        ["outage/writes_tell_what_became_of_them"]
        |inner, _clock| WrongAnswer {
            inner,
            reads: |error| Some(Err(error)),
            writes: |error| {
                Some(if error.maybe_applied() { Error::indeterminate(None, "the write timed out") } else { error })
            },
        };
    /// Keeps using a lost connection.
    never_reconnects: "E-2"
        ["outage/the_same_handle_works_again"]
        |inner, _clock| NeverReconnects { inner, is_lost: AtomicBool::new(false) };
    /// Reconnects without selecting its database, and works in another database.
    another_database: "G-2"
        ["outage/it_finds_its_entries_again"]
        |inner, _clock| OtherDatabase { inner, uses_other: AtomicBool::new(false) };
    /// Retries an increment that timed out, even if it was applied.
    increments_are_retried: "C-1"
        ["outage/increments_count_once"]
        |inner, _clock| RetriedIncrements { inner };
    /// Does not resume a watch after the connection was lost, and reports no gap.
    watches_end_silently: "W-3"
        ["outage/watchers_are_told"]
        |inner, _clock| SilentWatch { inner };
    /// Does not resume a subscription after the connection was lost, and reports no gap.
    subscriptions_end_silently: "P-1"
        ["outage/subscribers_are_told"]
        |inner, _clock| SilentSubscription { inner };
    /// Acknowledges a write although the backend is unreachable, and never sends the write.
    unsent_writes_are_acknowledged: "E-1"
        ["outage/errors_say_what_to_do", "outage/writes_tell_what_became_of_them"]
        |inner, _clock| LostWrites { inner };
    /// Answers reads from a local copy after the connection was lost, and never updates the copy.
    reads_are_frozen_after_an_outage: "G-2"
        ["outage/histories_are_linearizable", "outage/histories_with_conditions_are_linearizable"]
        |inner, _clock| FrozenReads { inner, had_outage: AtomicBool::new(false), copy: Mutex::default() };
}

/// True if the error reports an outage of the backend.
fn is_outage(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Indeterminate { .. })
}

/// Replaces the error of a read during an outage. If it returns `None`, the read never ends.
type Reads = fn(Error) -> Option<Result<Option<Entry>>>;

/// Answers wrongly during an outage.
struct WrongAnswer {
    inner: Arc<dyn KvStore>,
    reads: Reads,
    /// Replaces the error of a write during an outage. If it returns `None`, the write never ends.
    writes: fn(Error) -> Option<Error>,
}

impl std::fmt::Debug for WrongAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WrongAnswer").finish_non_exhaustive()
    }
}

#[async_trait]
impl KvStore for WrongAnswer {
    delegate_store!(self.inner, except get get_many set set_many);

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        match self.inner.get(key).await {
            Err(error) if is_outage(&error) => match (self.reads)(error) {
                Some(answer) => answer,
                None => std::future::pending().await,
            },
            answer => answer,
        }
    }

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        match self.inner.set(key, value, options).await {
            Err(error) if is_outage(&error) => match (self.writes)(error) {
                Some(error) => Err(error),
                None => std::future::pending().await,
            },
            outcome => outcome,
        }
    }
}

#[derive(Debug)]
struct NeverReconnects {
    inner: Arc<dyn KvStore>,
    is_lost: AtomicBool,
}

#[async_trait]
impl KvStore for NeverReconnects {
    delegate_store!(self.inner, except get get_many);

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        if self.is_lost.load(Ordering::Relaxed) {
            return Err(Error::unavailable("the connection is closed"));
        }
        let answer = self.inner.get(key).await;
        self.is_lost.store(answer.as_ref().err().is_some_and(is_outage), Ordering::Relaxed);
        answer
    }
}

#[derive(Debug)]
struct OtherDatabase {
    inner: Arc<dyn KvStore>,
    uses_other: AtomicBool,
}

impl OtherDatabase {
    fn locate(&self, key: &Key) -> Key {
        let other = || key.child("elsewhere").unwrap_or_else(|_| key.clone());
        if self.uses_other.load(Ordering::Relaxed) { other() } else { key.clone() }
    }

    fn observe<T>(&self, result: Result<T>) -> Result<T> {
        if result.as_ref().err().is_some_and(is_outage) {
            self.uses_other.store(true, Ordering::Relaxed);
        }
        result
    }
}

#[async_trait]
impl KvStore for OtherDatabase {
    delegate_store!(self.inner, except get get_many set set_many delete delete_many contains);

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        let result = self.inner.get(&self.locate(key)).await;
        self.observe(result)
    }

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        let result = self.inner.set(&self.locate(key), value, options).await;
        self.observe(result)
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
        let result = self.inner.delete(&self.locate(key), options).await;
        self.observe(result)
    }
}

#[derive(Debug)]
struct RetriedIncrements {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for RetriedIncrements {
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
struct SilentWatch {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for SilentWatch {
    delegate_store!(self.inner, except watch);

    async fn watch(&self, query: &WatchQuery) -> Result<WatchStream> {
        let stream = self.inner.watch(query).await?;
        let events = stream.take_while(|event| {
            let is_lost = matches!(event, Ok(WatchEvent::Gap { reason: GapReason::Reconnected }));
            std::future::ready(!is_lost)
        });
        Ok(Box::pin(events.chain(futures_util::stream::pending())))
    }
}

#[derive(Debug)]
struct SilentSubscription {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for SilentSubscription {
    delegate_store!(self.inner, except subscribe);

    async fn subscribe(&self, channels: &KeyPrefix) -> Result<MessageStream> {
        let events = self.inner.subscribe(channels).await?.take_while(|event| {
            let is_lost = matches!(event, Ok(MessageEvent::Gap { reason: GapReason::Reconnected }));
            std::future::ready(!is_lost)
        });
        Ok(Box::pin(events.chain(futures_util::stream::pending())))
    }
}

#[derive(Debug)]
struct LostWrites {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for LostWrites {
    delegate_store!(self.inner, except set set_many);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        match self.inner.set(key, value, options).await {
            Err(error) if is_outage(&error) => {
                Ok(SetOutcome::Stored { version: Some(Version::random()), previous: None })
            }
            outcome => outcome,
        }
    }
}

#[derive(Debug)]
struct FrozenReads {
    inner: Arc<dyn KvStore>,
    had_outage: AtomicBool,
    /// The entry of each key at its first read after the outage.
    copy: Mutex<HashMap<Key, Option<Entry>>>,
}

#[async_trait]
impl KvStore for FrozenReads {
    delegate_store!(self.inner, except get);

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        let read = self.inner.get(key).await;
        match read {
            Ok(entry) if self.had_outage.load(Ordering::Relaxed) => {
                let mut copy = self.copy.lock().unwrap_or_else(PoisonError::into_inner);
                Ok(copy.entry(key.clone()).or_insert(entry).clone())
            }
            Err(error) if is_outage(&error) => {
                self.had_outage.store(true, Ordering::Relaxed);
                Err(error)
            }
            read => read,
        }
    }
}
