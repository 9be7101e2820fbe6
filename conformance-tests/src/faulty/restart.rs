//! Stores that are another after they were closed.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use kv_core::{
    CommitOutcome, DeleteOptions, Entry, Error, ErrorKind, Expiry, Key, KeyPrefix, KvStore, NewExpiry, Result,
    SetOptions, SetOutcome, Transaction, WatchQuery, WatchStream, When, delegate_store,
};

use super::kept::Kept;
use super::{faults, scan};

faults! { restart:
    loses_the_last_write: "R-3" "does not flush when it is closed, and the last write is lost"
        ["restart/again_and_again", "restart/deletes_survive", "restart/flush_is_a_barrier",
         "restart/the_last_write_survives", "restart/values_survive"]
        |inner, _clock| Unflushed { inner, last: Kept::default() };
    half_a_transaction: "X-1" "writes the parts of a transaction one after the other, and the end comes between them"
        ["restart/transactions_survive_whole"]
        |inner, _clock| HalfCommitted { inner, last: Kept::default() };
    starts_ttls_anew: "T-4" "stores times to live instead of deadlines, and counts them from the reopening"
        ["restart/deadlines_read_back", "restart/deadlines_survive"]
        |inner, _clock| Restarted { inner, ttls: Kept::default() };
    makes_everything_permanent: "T-4" "does not store deadlines"
        ["restart/deadlines_read_back"]
        |inner, _clock| AtClose { inner, change: |entry| Some((entry, Expiry::Never)) };
    gives_new_versions: "S-3" "writes every entry anew when it is closed, under another version"
        ["restart/versions_survive", "restart/versions_hold"]
        |inner, _clock| AtClose { inner, change: |entry| {
            let expiry = entry.expires.into();
            Some((entry, expiry))
        } };
    close_does_nothing: "R-3" "goes on working after it was closed"
        ["errors/close_closes_every_clone", "errors/close_under_load"]
        |inner, _clock| Open { inner };
    close_twice_fails: "R-3" "closing again is an error"
        ["errors/close_twice", "restart/what_ended_meanwhile"]
        |inner, _clock| CloseOnce { inner, is_closed: AtomicBool::new(false) };
    errors_are_none: "E-1" "takes an error for a missing key: a closed store is an empty one"
        ["errors/say_that_it_is_closed", "errors/closed_after_close"]
        |inner, _clock| Swallowing { inner };
    closed_is_unavailable: "R-3" "says of a closed store that it may be back"
        ["errors/close_closes_every_clone"]
        |inner, _clock| Hopeful { inner };
    hangs_without_its_runtime: "R-3" "works on the runtime that opened it, and waits for ever when that has ended"
        ["restart/a_runtime_that_ended"]
        |inner, _clock| Tied { inner, runtime: tokio::runtime::Handle::try_current().ok() };
    pings_when_closed: "R-3" "leaves `ping`, `flush` and `sweep` as the trait has them, which know nothing of `close`"
        ["errors/closed_after_close"]
        |inner, _clock| Chirping { inner };
    stores_text_only: "R-3" "writes values into its file as text"
        ["restart/bytes_of_every_kind_survive", "restart/large_values_survive"]
        |inner, _clock| AtClose { inner, change: |entry| {
            let text = String::from_utf8_lossy(&entry.value).into_owned();
            let expiry = entry.expires.into();
            (text.as_bytes() != entry.value).then(|| (Entry::new(text), expiry))
        } };
    forgets_touches: "R-3" "moves a deadline in memory, and not in its file"
        ["restart/touches_survive"]
        |inner, _clock| Undone { inner, what: Forgotten::Touch, undo: Kept::default() };
    cleared_entries_return: "R-3" "clears what is in memory, and not its file"
        ["restart/clears_survive"]
        |inner, _clock| Undone { inner, what: Forgotten::Clear, undo: Kept::default() };
    entries_return_behind_the_past: "R-3" "does not write a set whose deadline has passed, and the entry before it comes back"
        ["restart/sets_in_the_past_survive"]
        |inner, _clock| Undone { inner, what: Forgotten::SetInThePast, undo: Kept::default() };
    streams_outlive_the_store: "R-3" "closing leaves watchers waiting"
        ["watch_loss/close_ends_the_stream"]
        |inner, _clock| Endless { inner };
}

#[derive(Debug)]
struct Unflushed {
    inner: Arc<dyn KvStore>,
    last: Kept<Option<(Key, Option<Entry>)>>,
}

#[async_trait]
impl KvStore for Unflushed {
    delegate_store!(self.inner, except set set_many flush close);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        let before = self.inner.get(key).await?;
        let outcome = self.inner.set(key, value, options).await?;
        *self.last.lock() = Some((key.clone(), before));
        Ok(outcome)
    }

    async fn flush(&self) -> Result<()> {
        self.last.lock().take();
        self.inner.flush().await
    }

    async fn close(&self) -> Result<()> {
        let last = self.last.lock().take();
        match last {
            Some((key, Some(entry))) => {
                let _ =
                    self.inner.set(&key, entry.value, &SetOptions::default().with_expiry(entry.expires.into())).await?;
            }
            Some((key, None)) => {
                let _ = self.inner.delete(&key, &DeleteOptions::default()).await?;
            }
            None => {}
        }
        self.inner.close().await
    }
}

#[derive(Debug)]
struct HalfCommitted {
    inner: Arc<dyn KvStore>,
    /// What the last mutation of the last transaction replaced.
    last: Kept<Option<(Key, Option<Entry>)>>,
}

#[async_trait]
impl KvStore for HalfCommitted {
    delegate_store!(self.inner, except commit close);

    async fn commit(&self, transaction: &Transaction) -> Result<CommitOutcome> {
        let before = match transaction.mutations.last() {
            Some(mutation) => Some((mutation.key().clone(), self.inner.get(mutation.key()).await?)),
            None => None,
        };
        let outcome = self.inner.commit(transaction).await?;
        *self.last.lock() = before;
        Ok(outcome)
    }

    async fn close(&self) -> Result<()> {
        let last = self.last.lock().take();
        if let Some((key, Some(entry))) = last {
            let _ = self.inner.set(&key, entry.value, &SetOptions::default()).await?;
        }
        self.inner.close().await
    }
}

#[derive(Debug)]
struct Restarted {
    inner: Arc<dyn KvStore>,
    ttls: Kept<HashMap<Key, Duration>>,
}

#[async_trait]
impl KvStore for Restarted {
    delegate_store!(self.inner, except set set_many close);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        let outcome = self.inner.set(key, value, options).await?;
        let mut ttls = self.ttls.lock();
        match options.expiry {
            Expiry::After(ttl) => ttls.insert(key.clone(), ttl),
            _ => ttls.remove(key),
        };
        Ok(outcome)
    }

    async fn close(&self) -> Result<()> {
        let ttls = std::mem::take(&mut *self.ttls.lock());
        for (key, ttl) in ttls {
            self.inner.touch(&key, NewExpiry::After(ttl)).await?;
        }
        self.inner.close().await
    }
}

/// What an entry is written as.
type Rewrite = fn(Entry) -> Option<(Entry, Expiry)>;

/// Writes every entry again when it is closed.
struct AtClose {
    inner: Arc<dyn KvStore>,
    change: Rewrite,
}

impl fmt::Debug for AtClose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AtClose").finish_non_exhaustive()
    }
}

#[async_trait]
impl KvStore for AtClose {
    delegate_store!(self.inner, except close);

    async fn close(&self) -> Result<()> {
        if self.inner.ping().await.is_ok() {
            for item in scan::everything(&*self.inner, &KeyPrefix::ALL, false).await? {
                if let Some((entry, expiry)) = item.entry.and_then(self.change) {
                    let options = SetOptions::default().with_expiry(expiry).with_when(When::Present);
                    let _ = self.inner.set(&item.key, entry.value, &options).await?;
                }
            }
        }
        self.inner.close().await
    }
}

/// What does not reach the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Forgotten {
    Touch,
    Clear,
    SetInThePast,
}

/// Writes again what was there before, when it is closed.
#[derive(Debug)]
struct Undone {
    inner: Arc<dyn KvStore>,
    what: Forgotten,
    undo: Kept<HashMap<Key, Entry>>,
}

impl Undone {
    async fn remember(&self, key: &Key) -> Result<()> {
        if let Some(entry) = self.inner.get(key).await? {
            self.undo.lock().insert(key.clone(), entry);
        }
        Ok(())
    }
}

#[async_trait]
impl KvStore for Undone {
    delegate_store!(self.inner, except set touch clear close);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        self.undo.lock().remove(key);
        if self.what == Forgotten::SetInThePast && options.expiry == Expiry::After(Duration::ZERO) {
            self.remember(key).await?;
        }
        self.inner.set(key, value, options).await
    }

    async fn touch(&self, key: &Key, expiry: NewExpiry) -> Result<bool> {
        if self.what == Forgotten::Touch {
            self.remember(key).await?;
        }
        self.inner.touch(key, expiry).await
    }

    async fn clear(&self, prefix: &KeyPrefix) -> Result<u64> {
        if self.what == Forgotten::Clear {
            for item in scan::everything(&*self.inner, prefix, true).await? {
                self.remember(&item.key).await?;
            }
        }
        self.inner.clear(prefix).await
    }

    async fn close(&self) -> Result<()> {
        let undo = std::mem::take(&mut *self.undo.lock());
        for (key, entry) in undo {
            let options = SetOptions::default().with_expiry(entry.expires.into());
            let _ = self.inner.set(&key, entry.value, &options).await?;
        }
        self.inner.close().await
    }
}

#[derive(Debug)]
struct Chirping {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for Chirping {
    // What is left out has the trait's own bodies.
    delegate_store!(self.inner, except ping flush sweep);
}

#[derive(Debug)]
struct Open {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for Open {
    delegate_store!(self.inner, except close);

    async fn close(&self) -> Result<()> {
        self.inner.flush().await
    }
}

#[derive(Debug)]
struct CloseOnce {
    inner: Arc<dyn KvStore>,
    is_closed: AtomicBool,
}

#[async_trait]
impl KvStore for CloseOnce {
    delegate_store!(self.inner, except close);

    async fn close(&self) -> Result<()> {
        if self.is_closed.swap(true, Ordering::AcqRel) {
            return Err(Error::closed());
        }
        self.inner.close().await
    }
}

#[derive(Debug)]
struct Swallowing {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for Swallowing {
    delegate_store!(self.inner, except get get_many contains);

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        Ok(self.inner.get(key).await.unwrap_or_default())
    }
}

#[derive(Debug)]
struct Hopeful {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for Hopeful {
    delegate_store!(self.inner, except get get_many set set_many);

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        self.inner.get(key).await.map_err(hopeful)
    }

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        self.inner.set(key, value, options).await.map_err(hopeful)
    }
}

fn hopeful(error: Error) -> Error {
    if error.kind() == ErrorKind::Closed { Error::unavailable("the store is not there") } else { error }
}

#[derive(Debug)]
struct Endless {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for Endless {
    delegate_store!(self.inner, except watch);

    async fn watch(&self, query: &WatchQuery) -> Result<WatchStream> {
        Ok(Box::pin(self.inner.watch(query).await?.chain(stream::pending())))
    }
}

#[derive(Debug)]
struct Tied {
    inner: Arc<dyn KvStore>,
    runtime: Option<tokio::runtime::Handle>,
}

#[async_trait]
impl KvStore for Tied {
    delegate_store!(self.inner, except get get_many);

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        let Some(runtime) = &self.runtime else { return self.inner.get(key).await };
        let (inner, key) = (Arc::clone(&self.inner), key.clone());
        match runtime.spawn(async move { inner.get(&key).await }).await {
            Ok(found) => found,
            Err(_) => std::future::pending().await,
        }
    }
}
