//! The contract that every backend keeps.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::capability::Capability;
use crate::delegate_store;
use crate::entry::Entry;
use crate::error::{Error, Operation, Result};
use crate::expiry::NewExpiry;
use crate::info::StoreInfo;
use crate::key::{Key, KeyPrefix};
use crate::list::{ListPage, ListQuery};
use crate::message::MessageStream;
use crate::options::{DeleteOptions, DeleteOutcome, IncrementOptions, SetItem, SetOptions, SetOutcome};
use crate::transaction::{CommitOutcome, Transaction};
use crate::watch::{WatchQuery, WatchStream};

/// A key–value store with array-style keys and optional time to live.
///
/// This is what an adapter implements; applications hold a [`Kv`](crate::Kv) over it. Four methods make a store of the Core
/// level. The others either are built from those, and overridden for speed, or answer `Unsupported` until the adapter
/// implements them and declares the [`Capability`].
///
/// Every method keeps the clauses that it names, word by word in `CONTRACT.md` at the root of the workspace; the crate
/// `conformance-tests` proves them one by one. Common to all:
/// - E-1: an error's kind says what to do; a write that may have happened is `Indeterminate`, never `Unavailable`.
/// - E-2: nothing hangs: each round trip to a backend has a deadline.
/// - A-1: dropping any future leaves store and key usable; the write behind it is not applied, applied, or will be.
/// - A-2: a call that has begun and is polled no further holds up no other.
/// - R-3: after `close`, every call is `Closed`.
/// - T-1: from its deadline on, an entry is absent for every operation.
///
/// # Examples
/// The smallest store that is one:
/// ```
/// use std::collections::BTreeMap;
/// use std::sync::Mutex;
/// use async_trait::async_trait;
/// use bytes::Bytes;
/// use kv_core::{
///     Capabilities, Clock, Deadline, DeleteOptions, DeleteOutcome, Entry, Key, KvStore, Result, SetOptions, SetOutcome,
///     StoreInfo, SystemClock,
/// };
///
/// #[derive(Debug)]
/// struct Small {
///     info: StoreInfo,
///     entries: Mutex<BTreeMap<Key, (Bytes, Deadline)>>,
/// }
///
/// #[async_trait]
/// impl KvStore for Small {
///     fn info(&self) -> &StoreInfo {
///         &self.info
///     }
///
///     async fn get(&self, key: &Key) -> Result<Option<Entry>> {
///         let entries = self.entries.lock().unwrap();
///         let live = entries.get(key).filter(|(_, deadline)| !deadline.has_passed(SystemClock.now()));
///         Ok(live.map(|(value, deadline)| Entry::new(value.clone()).with_expires(*deadline)))
///     }
///
///     async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
///         options.check(&self.info.capabilities)?;
///         self.info.limits.check_value(value.len())?;
///         let (now, mut entries) = (SystemClock.now(), self.entries.lock().unwrap());
///         let current = entries.get(key).map(|(_, deadline)| *deadline).filter(|deadline| !deadline.has_passed(now));
///         entries.insert(key.clone(), (value, Deadline::resolve(options.expiry, now, current)));
///         Ok(SetOutcome::Stored { version: None, previous: None })
///     }
///
///     async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
///         options.check(&self.info.capabilities)?;
///         let removed = self.entries.lock().unwrap().remove(key);
///         Ok(match removed.filter(|(_, deadline)| !deadline.has_passed(SystemClock.now())) {
///             Some(_) => DeleteOutcome::Deleted { previous: None },
///             None => DeleteOutcome::Missing,
///         })
///     }
/// }
///
/// # let rt = tokio::runtime::Builder::new_current_thread().build().unwrap();
/// # rt.block_on(async {
/// let store = Small { info: StoreInfo::new("small", Capabilities::CORE.with_deadlines()), entries: Mutex::default() };
/// let key = Key::new(["users", "1"])?;
/// store.set(&key, "ada".into(), &SetOptions::default()).await?;
/// assert_eq!(store.get(&key).await?.unwrap().value, "ada");
/// # Ok::<(), kv_core::Error>(())
/// # }).unwrap();
/// ```
#[async_trait]
pub trait KvStore: Debug + Send + Sync + 'static {
    /// Name, capabilities and limits: constant after the store was opened, and without I/O.
    fn info(&self) -> &StoreInfo;

    /// Reads the live entry of a key.
    ///
    /// # Contract
    /// - G-1: value, version and deadline are of one and the same write.
    /// - G-2: per key the store is linearizable: what was acknowledged to anyone is seen, or something newer.
    /// - V-1: the bytes that were written; an empty value is not an absent one.
    /// - T-5: reading never extends the deadline.
    ///
    /// # Errors
    /// `Corrupt` where what is stored is damaged or foreign; other keys work.
    async fn get(&self, key: &Key) -> Result<Option<Entry>>;

    /// Writes value and deadline of a key together.
    ///
    /// # Contract
    /// - S-1: without expiry the entry becomes permanent; with one the clock starts at this write; `Keep` keeps the old deadline.
    /// - S-2: the condition is judged and applied as one atomic step; refused is an outcome that changes nothing and
    ///   brings the current entry.
    /// - S-3: every write gives a new version, also of the same bytes; it never repeats for the key.
    /// - T-3: with a deadline that has passed, the condition is judged, the outcome is as stored, and the key is absent.
    /// - V-2: nothing that the caller does to its buffer later changes the store.
    /// - V-3: above the declared limit: `Invalid`, and the old value stays.
    ///
    /// # Errors
    /// `Invalid`, `Unsupported` for an option that the store does not know, `Capacity`, `Indeterminate`.
    ///
    /// # Cancel safety
    /// After a dropped future the write is not applied, applied, or still to be applied.
    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome>;

    /// Removes a key.
    ///
    /// # Contract
    /// - D-1: tells whether a live entry was removed; idempotent, not recursive, under the same conditions as `set`.
    ///
    /// # Errors
    /// As [`KvStore::set`].
    ///
    /// # Cancel safety
    /// As [`KvStore::set`].
    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome>;

    /// Whether the key has a live entry.
    ///
    /// # Contract
    /// - G-2: as a `get`, without the value.
    async fn contains(&self, key: &Key) -> Result<bool> {
        Ok(self.get(key).await?.is_some())
    }

    /// Reads several keys.
    ///
    /// # Contract
    /// - B-1: one answer a key, in input order, duplicates included. Not a snapshot.
    async fn get_many(&self, keys: &[Key]) -> Vec<Result<Option<Entry>>> {
        let mut answers = Vec::with_capacity(keys.len());
        for key in keys {
            answers.push(self.get(key).await);
        }
        answers
    }

    /// Writes several keys, in input order where a key stands twice.
    ///
    /// # Contract
    /// - B-1: not atomic; one outcome a write, in input order, and each failure for itself.
    ///
    /// # Cancel safety
    /// After a dropped future each write for itself is not applied, applied, or still to be applied.
    async fn set_many(&self, items: &[SetItem]) -> Vec<Result<SetOutcome>> {
        let mut outcomes = Vec::with_capacity(items.len());
        for SetItem { key, value, options } in items {
            outcomes.push(self.set(key, value.clone(), options).await);
        }
        outcomes
    }

    /// Removes several keys.
    ///
    /// # Contract
    /// - B-1: not atomic; one outcome a key, in input order, and each failure for itself.
    ///
    /// # Cancel safety
    /// As [`KvStore::set_many`].
    async fn delete_many(&self, keys: &[Key]) -> Vec<Result<DeleteOutcome>> {
        let mut outcomes = Vec::with_capacity(keys.len());
        for key in keys {
            outcomes.push(self.delete(key, &DeleteOptions::default()).await);
        }
        outcomes
    }

    /// Lists live entries in key order, one page.
    ///
    /// # Contract
    /// - L-1: `prefix ∩ after ∩ before`, the prefix key included, in order or reversed, no duplicate.
    /// - L-2: what is present during the whole listing appears exactly once. Pages are not a snapshot.
    /// - L-3: a page ends at `limit` or `max_page_bytes`; its cost follows what is returned where the list is `Native`.
    /// - L-4: foreign data in the same database is ignored.
    ///
    /// # Errors
    /// `Unsupported` without [`Capability::List`], `Invalid` for a limit of zero.
    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        let _ = query;
        Err(lacking(self.info(), Operation::List, Capability::List))
    }

    /// Removes everything that a prefix covers and tells how many live entries went.
    ///
    /// # Contract
    /// - L-5: not atomic: what was there at the call and not written since is gone.
    ///
    /// # Errors
    /// `Unsupported` without [`Capability::List`].
    ///
    /// # Cancel safety
    /// A dropped future has removed some, all or nothing.
    async fn clear(&self, prefix: &KeyPrefix) -> Result<u64> {
        let _ = prefix;
        Err(lacking(self.info(), Operation::Clear, Capability::List))
    }

    /// Moves the deadline of a live entry and tells whether there was one.
    ///
    /// # Contract
    /// - T-5: longer, shorter or never; value and version stay.
    ///
    /// # Errors
    /// `Unsupported` without [`Capability::Touch`].
    ///
    /// # Cancel safety
    /// As [`KvStore::set`].
    async fn touch(&self, key: &Key, expiry: NewExpiry) -> Result<bool> {
        let _ = (key, expiry);
        Err(lacking(self.info(), Operation::Touch, Capability::Touch))
    }

    /// Adds to a counter, kept as decimal text, and gives its new value.
    ///
    /// # Contract
    /// - C-1: creates at `by`, is exact over the whole range of `i64`, keeps the deadline; overflow or a value that is no
    ///   number is `Invalid` and changes nothing.
    ///
    /// # Errors
    /// `Unsupported` without [`Capability::Counters`], `Invalid`, `Indeterminate`.
    ///
    /// # Cancel safety
    /// As [`KvStore::set`].
    async fn increment(&self, key: &Key, by: i64, options: &IncrementOptions) -> Result<i64> {
        let _ = (key, by, options);
        Err(lacking(self.info(), Operation::Increment, Capability::Counters))
    }

    /// Applies checks and mutations of several keys, all or nothing.
    ///
    /// # Contract
    /// - X-1: in the order given, also across a crash; once any read has returned one of its effects, every later read
    ///   returns all of them or newer.
    ///
    /// # Errors
    /// `Unsupported` without [`Capability::Transactions`] or for keys of two groups, `Invalid`, `Indeterminate`.
    ///
    /// # Cancel safety
    /// As [`KvStore::set`], for all of it together.
    async fn commit(&self, transaction: &Transaction) -> Result<CommitOutcome> {
        let _ = transaction;
        Err(lacking(self.info(), Operation::Commit, Capability::Transactions))
    }

    /// Watches keys change.
    ///
    /// # Contract
    /// - W-1: live when the call returns: a later write through any path is reported, or superseded by a later report.
    /// - W-2: per key, reports never go back in time and carry the version that `get` shows.
    /// - W-3: possible loss is a `Gap`; memory is bounded; a slow watcher never blocks a writer.
    /// - W-4: values of any size.
    ///
    /// # Errors
    /// `Unsupported` without [`Capability::Watch`].
    async fn watch(&self, query: &WatchQuery) -> Result<WatchStream> {
        let _ = query;
        Err(lacking(self.info(), Operation::Watch, Capability::Watch))
    }

    /// Sends a message, which is not stored, to whoever subscribes now.
    ///
    /// # Contract
    /// - P-1: every live subscriber gets it once and in order per publisher; none is fine.
    ///
    /// # Errors
    /// `Unsupported` without [`Capability::Messages`], `Invalid` for a message over the limit.
    async fn publish(&self, channel: &Key, message: Bytes) -> Result<()> {
        let _ = (channel, message);
        Err(lacking(self.info(), Operation::Publish, Capability::Messages))
    }

    /// Subscribes to the channels under a prefix.
    ///
    /// # Contract
    /// - P-1: live when the call returns; possible loss is a `Gap`.
    /// - P-2: dropping the stream frees what it holds.
    ///
    /// # Errors
    /// `Unsupported` without [`Capability::Messages`].
    async fn subscribe(&self, channels: &KeyPrefix) -> Result<MessageStream> {
        let _ = channels;
        Err(lacking(self.info(), Operation::Subscribe, Capability::Messages))
    }

    /// Asks whether the backend answers. The default body says yes, also after `close`: a store that can be closed has its own.
    ///
    /// # Errors
    /// `Unavailable` where it does not.
    async fn ping(&self) -> Result<()> {
        Ok(())
    }

    /// Waits until every write acknowledged before is as safe as the backend can make it. The default body has nothing to wait
    /// for, also after `close`: a store that can be closed has its own.
    async fn flush(&self) -> Result<()> {
        Ok(())
    }

    /// Frees the space of expired entries now and tells how many there were. What has expired is absent without it. The
    /// default body frees nothing, also after `close`: a store that can be closed has its own.
    ///
    /// # Contract
    /// - T-6: it goes by deadline, not over everything.
    async fn sweep(&self) -> Result<u64> {
        Ok(0)
    }

    /// Flushes, and closes the store for every clone of the handle; again is fine.
    ///
    /// # Contract
    /// - R-3: pending work is flushed, calls afterwards are `Closed`, streams end.
    async fn close(&self) -> Result<()> {
        self.flush().await
    }
}

/// What the default bodies answer.
fn lacking(info: &StoreInfo, operation: Operation, capability: Capability) -> Error {
    Error::unsupported(capability).with_operation(operation).with_backend(info.name.clone())
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<S: KvStore + ?Sized> KvStore for Arc<S> {
    delegate_store!(self.as_ref());
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<S: KvStore + ?Sized> KvStore for Box<S> {
    delegate_store!(self.as_ref());
}
