//! Stores that apply the limit of a caller's key to stored keys, which a namespace can make longer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use kv_core::{
    CommitOutcome, DeleteOptions, Entry, Error, Expiry, Key, KeyPrefix, KvStore, ListPage, ListQuery, MessageEvent,
    NewExpiry, Result, SetOptions, SetOutcome, Transaction, WatchEvent, delegate_store,
};
use tokio::sync::OnceCell;

use super::encoded_keys::EncodedKeys;
use super::keys::truncate;
use super::messages;
use super::watch;
use super::{faults, scan};

faults! { namespace_keys:
    /// Reads the keys of its file with `Key::parse`, so the file with a key of more than 2,048 bytes never opens again.
    file_is_read_as_callers_keys: "R-3"
        ["namespace_keys/survive"]
        |inner, _clock| ReadAsCallersKeys { inner, file: OnceCell::new() };
    /// Drops keys of more than 2,048 bytes when it reads its file.
    dropped_on_reopen: "R-3"
        ["namespace_keys/survive"]
        |inner, _clock| DroppedAtClose { inner };
    /// Truncates stored keys to 2,048 bytes.
    truncated_at_2048_bytes: "K-5"
        ["namespace_keys/are_their_own_entries"]
        |inner, _clock| EncodedKeys::with_functions(inner, |key| truncate(key, Key::MAX_BYTES), Key::clone);
    /// Ignores stored keys that `Key::parse` refuses in `list` and `clear`, as if they were foreign.
    list_takes_them_for_foreign: "L-1"
        ["namespace_keys/are_listed", "namespace_keys/are_cleared"]
        |inner, _clock| TakenForForeign { inner };
    /// Does not add keys of more than 2,048 bytes to its index of deadlines.
    deadlines_are_not_indexed: "T-1"
        ["namespace_keys/expire", "namespace_keys/are_swept"]
        |inner, _clock| WithoutDeadline { inner };
    /// Stops its sweep at a due key that `Key::parse` refuses.
    sweep_stops: "T-6"
        ["namespace_keys/are_swept"]
        |inner, _clock| StoppedSweep { inner, is_stopped: AtomicBool::new(false) };
    /// Returns false from `touch` for a key of more than 2,048 bytes.
    touch_finds_none: "T-5"
        ["namespace_keys/are_touched"]
        |inner, _clock| UntouchedKeys { inner };
    /// Ignores notifications about keys that `Key::parse` refuses.
    changes_are_not_reported: "W-1"
        ["namespace_keys/are_watched"]
        |inner, _clock| watch::Filtered::new(inner, |event, _| match event {
            WatchEvent::Set { key, .. } | WatchEvent::Removed { key } => is_callers_key(key),
            _ => true,
        });
    /// Ignores messages of channels that `Key::parse` refuses.
    messages_are_dropped: "P-1"
        ["namespace_keys/carry_messages"]
        |inner, _clock| messages::Filtered { inner, is_kept: |event| {
            !matches!(event, MessageEvent::Message(message) if !is_callers_key(&message.channel))
        } };
    /// Refuses a transaction with a key of more than 2,048 bytes.
    commit_is_refused: "X-1"
        ["namespace_keys/are_committed"]
        |inner, _clock| CheckedTransactions { inner };
}

/// True if a caller could pass the stored key, because it is not longer than a caller's key may be.
fn is_callers_key(stored: &Key) -> bool {
    Key::parse(stored.as_str()).is_ok()
}

/// Reads the file at the first `get`, which is the first call of a case after a reopen.
#[derive(Debug)]
struct ReadAsCallersKeys {
    inner: Arc<dyn KvStore>,
    file: OnceCell<bool>,
}

#[async_trait]
impl KvStore for ReadAsCallersKeys {
    delegate_store!(self.inner, except get get_many contains);

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        let read = || async {
            let keys = scan::list_all(&*self.inner, &KeyPrefix::ALL, true).await?;
            Ok::<bool, Error>(keys.iter().all(|item| is_callers_key(&item.key)))
        };
        if *self.file.get_or_try_init(read).await? {
            self.inner.get(key).await
        } else {
            Err(Error::corrupt("a key in the file is not canonical"))
        }
    }
}

#[derive(Debug)]
struct DroppedAtClose {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for DroppedAtClose {
    delegate_store!(self.inner, except close);

    async fn close(&self) -> Result<()> {
        if self.inner.ping().await.is_ok() {
            for item in scan::list_all(&*self.inner, &KeyPrefix::ALL, true).await? {
                if !is_callers_key(&item.key) {
                    let _ = self.inner.delete(&item.key, &DeleteOptions::default()).await?;
                }
            }
        }
        self.inner.close().await
    }
}

#[derive(Debug)]
struct TakenForForeign {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for TakenForForeign {
    delegate_store!(self.inner, except list clear);

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        let mut page = self.inner.list(query).await?;
        page.items.retain(|item| is_callers_key(&item.key));
        Ok(page)
    }

    async fn clear(&self, prefix: &KeyPrefix) -> Result<u64> {
        scan::clear(&*self.inner, |key| prefix.covers(key) && is_callers_key(key)).await
    }
}

#[derive(Debug)]
struct WithoutDeadline {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for WithoutDeadline {
    delegate_store!(self.inner, except set set_many);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        let expiry = if is_callers_key(key) { options.expiry } else { Expiry::Never };
        self.inner.set(key, value, &options.clone().with_expiry(expiry)).await
    }
}

#[derive(Debug)]
struct StoppedSweep {
    inner: Arc<dyn KvStore>,
    is_stopped: AtomicBool,
}

#[async_trait]
impl KvStore for StoppedSweep {
    delegate_store!(self.inner, except set set_many sweep);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        if options.expiry != Expiry::Never && !is_callers_key(key) {
            self.is_stopped.store(true, Ordering::Release);
        }
        self.inner.set(key, value, options).await
    }

    async fn sweep(&self) -> Result<u64> {
        if self.is_stopped.load(Ordering::Acquire) {
            return Err(Error::corrupt("a key in the index is not canonical"));
        }
        self.inner.sweep().await
    }
}

#[derive(Debug)]
struct UntouchedKeys {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for UntouchedKeys {
    delegate_store!(self.inner, except touch);

    async fn touch(&self, key: &Key, expiry: NewExpiry) -> Result<bool> {
        if is_callers_key(key) { self.inner.touch(key, expiry).await } else { Ok(false) }
    }
}

#[derive(Debug)]
struct CheckedTransactions {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for CheckedTransactions {
    delegate_store!(self.inner, except commit);

    async fn commit(&self, transaction: &Transaction) -> Result<CommitOutcome> {
        for key in transaction.keys() {
            Key::parse(key.as_str())?;
        }
        self.inner.commit(transaction).await
    }
}
