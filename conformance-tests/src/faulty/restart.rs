//! Stores that have other entries, deadlines or versions after they were closed and opened again.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use kv_core::{
    CommitOutcome, DeleteOptions, Entry, Expiry, Key, KeyPrefix, KvStore, NewExpiry, Result, SetOptions, SetOutcome,
    Transaction, When, delegate_store,
};

use super::hidden::Hidden;
use super::{faults, scan};

faults! { restart:
    /// Does not flush at `close`, so the last write is lost.
    loses_the_last_write: "R-3"
        ["restart/again_and_again", "restart/deletes_survive", "restart/flush_is_a_barrier",
         "restart/the_last_write_survives", "restart/values_survive"]
        |inner, _clock| Unflushed { inner, last: Hidden::default() };
    /// Writes the mutations of a transaction one by one, so a stop in between leaves half of the transaction.
    half_a_transaction: "X-1"
        ["restart/transactions_survive_whole"]
        |inner, _clock| HalfCommitted { inner, last: Hidden::default() };
    /// Stores times to live instead of deadlines, and counts them from the reopen.
    ttls_restart: "T-4"
        ["restart/deadlines_read_back", "restart/deadlines_survive"]
        |inner, _clock| RestartedTtls { inner, ttls: Hidden::default() };
    /// Does not store deadlines.
    deadlines_are_not_stored: "T-4"
        ["restart/deadlines_read_back"]
        |inner, _clock| RewrittenAtClose { inner, change: |entry| Some((entry, Expiry::Never)) };
    /// Writes every entry again at `close`, with a new version.
    versions_change_at_reopen: "S-3"
        ["restart/versions_survive", "restart/versions_hold"]
        |inner, _clock| RewrittenAtClose { inner, change: |entry| {
            let expiry = entry.expires.into();
            Some((entry, expiry))
        } };
    /// Reports a key as missing after any error, so a closed store looks empty.
    errors_read_as_missing: "E-1"
        ["errors/say_that_it_is_closed", "errors/closed_after_close"]
        |inner, _clock| ErrorsAsMissing { inner };
    /// Runs reads on the runtime that opened the store, and waits forever once that runtime has ended.
    hangs_after_its_runtime_ended: "R-3"
        ["restart/a_runtime_that_ended"]
        |inner, _clock| TiedToRuntime { inner, runtime: tokio::runtime::Handle::try_current().ok() };
    /// Writes values into its file as text.
    values_are_stored_as_text: "R-3"
        ["restart/bytes_of_every_kind_survive", "restart/large_values_survive"]
        |inner, _clock| RewrittenAtClose { inner, change: |entry| {
            let text = String::from_utf8_lossy(&entry.value).into_owned();
            let expiry = entry.expires.into();
            (text.as_bytes() != entry.value).then(|| (Entry::new(text), expiry))
        } };
    /// Moves a deadline in memory, but not in its file.
    touches_are_not_stored: "R-3"
        ["restart/touches_survive"]
        |inner, _clock| UndoneAtClose { inner, operation: Unstored::Touch, undo: Hidden::default() };
    /// Clears entries in memory, but not in its file.
    clears_are_not_stored: "R-3"
        ["restart/clears_survive"]
        |inner, _clock| UndoneAtClose { inner, operation: Unstored::Clear, undo: Hidden::default() };
    /// Does not store a set whose deadline has passed, so the replaced entry comes back after a reopen.
    sets_in_the_past_are_not_stored: "R-3"
        ["restart/sets_in_the_past_survive"]
        |inner, _clock| UndoneAtClose { inner, operation: Unstored::SetInThePast, undo: Hidden::default() };
}

#[derive(Debug)]
struct Unflushed {
    inner: Arc<dyn KvStore>,
    last: Hidden<Option<(Key, Option<Entry>)>>,
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
    /// The key of the last mutation of the last transaction, and the entry that the mutation replaced.
    last: Hidden<Option<(Key, Option<Entry>)>>,
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
struct RestartedTtls {
    inner: Arc<dyn KvStore>,
    ttls: Hidden<HashMap<Key, Duration>>,
}

#[async_trait]
impl KvStore for RestartedTtls {
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

/// Returns the changed entry and its expiry, or `None` to keep the stored entry.
type Rewrite = fn(Entry) -> Option<(Entry, Expiry)>;

/// Writes every entry again at `close`.
struct RewrittenAtClose {
    inner: Arc<dyn KvStore>,
    change: Rewrite,
}

impl fmt::Debug for RewrittenAtClose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RewrittenAtClose").finish_non_exhaustive()
    }
}

#[async_trait]
impl KvStore for RewrittenAtClose {
    delegate_store!(self.inner, except close);

    async fn close(&self) -> Result<()> {
        if self.inner.ping().await.is_ok() {
            for item in scan::list_all(&*self.inner, &KeyPrefix::ALL, false).await? {
                if let Some((entry, expiry)) = item.entry.and_then(self.change) {
                    let options = SetOptions::default().with_expiry(expiry).with_when(When::Present);
                    let _ = self.inner.set(&item.key, entry.value, &options).await?;
                }
            }
        }
        self.inner.close().await
    }
}

/// The operation that does not reach the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unstored {
    Touch,
    Clear,
    SetInThePast,
}

/// At `close`, restores the entries from before an operation.
#[derive(Debug)]
struct UndoneAtClose {
    inner: Arc<dyn KvStore>,
    operation: Unstored,
    undo: Hidden<HashMap<Key, Entry>>,
}

impl UndoneAtClose {
    async fn remember(&self, key: &Key) -> Result<()> {
        if let Some(entry) = self.inner.get(key).await? {
            self.undo.lock().insert(key.clone(), entry);
        }
        Ok(())
    }
}

#[async_trait]
impl KvStore for UndoneAtClose {
    delegate_store!(self.inner, except set touch clear close);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        self.undo.lock().remove(key);
        if self.operation == Unstored::SetInThePast && options.expiry == Expiry::After(Duration::ZERO) {
            self.remember(key).await?;
        }
        self.inner.set(key, value, options).await
    }

    async fn touch(&self, key: &Key, expiry: NewExpiry) -> Result<bool> {
        if self.operation == Unstored::Touch {
            self.remember(key).await?;
        }
        self.inner.touch(key, expiry).await
    }

    async fn clear(&self, prefix: &KeyPrefix) -> Result<u64> {
        if self.operation == Unstored::Clear {
            for item in scan::list_all(&*self.inner, prefix, true).await? {
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
struct ErrorsAsMissing {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for ErrorsAsMissing {
    delegate_store!(self.inner, except get get_many contains);

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        Ok(self.inner.get(key).await.unwrap_or_default())
    }
}

#[derive(Debug)]
struct TiedToRuntime {
    inner: Arc<dyn KvStore>,
    runtime: Option<tokio::runtime::Handle>,
}

#[async_trait]
impl KvStore for TiedToRuntime {
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
