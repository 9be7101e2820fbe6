//! The trait that every backend implements.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;

use crate::capability::Capability;
use crate::change_sink::{ChangeSink, Registration};
use crate::clock::{Clock, SystemClock};
use crate::entry::Entry;
use crate::error::{Error, Operation, Result};
use crate::expiry::NewExpiry;
use crate::info::StoreInfo;
use crate::key::{Key, KeyPrefix};
use crate::list::{ListPage, ListQuery};
use crate::message::MessageStream;
use crate::options::{
    DeleteOptions, DeleteOutcome, GetOptions, GetOutcome, IncrementOptions, SetItem, SetOptions, SetOutcome,
};
use crate::transaction::{CommitOutcome, Transaction};
use crate::watch::{WatchQuery, WatchStream, WatchTarget};

/// A key–value store with array-style keys and optional time to live.
///
/// Adapters implement this trait; applications use a [`Kv`](crate::Kv) on top of it. Four methods make a store of the
/// Core level. The other methods have default bodies. A default body either uses the four methods, so that an adapter
/// only overrides it for speed, or returns `Unsupported` until the adapter implements the method and declares the
/// [`Capability`].
///
/// Every method keeps the clauses that its documentation names. `CONTRACT.md` at the root of the workspace has their
/// full text, and the crate `anykv-conformance` tests each of them. All methods keep these clauses:
/// - E-1: the kind of an error tells the caller how to react. A write that may have happened is `Indeterminate`, never
///   `Unavailable`.
/// - E-2: no call hangs; each round trip to a backend has a timeout.
/// - A-1: dropping a future leaves store and key usable. A dropped write is not applied, was applied, or will be
///   applied.
/// - A-2: a started call that is no longer polled does not block other calls.
/// - R-3: after `close`, every call fails with `Closed`.
/// - T-1: from its deadline on, an entry is absent for every operation.
///
/// # Examples
/// A minimal store:
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
    /// Returns the name, the capabilities and the limits. They are constant after the store was opened, and the call
    /// does no I/O.
    fn info(&self) -> &StoreInfo;

    /// Reads the live entry of a key.
    ///
    /// # Contract
    /// - G-1: value, version and deadline come from the same write.
    /// - G-2: per key the store is linearizable: a read returns the latest write that was acknowledged to any caller,
    ///   or a newer write.
    /// - G-3: under [`Reads::Bounded`](crate::Reads::Bounded), another handle's write may be seen later, by that time.
    /// - V-1: the value has the bytes that were written. An empty value is not an absent value.
    /// - T-5: reading never extends the deadline.
    ///
    /// # Errors
    /// `Corrupt` if the stored bytes are damaged or foreign; other keys still work.
    async fn get(&self, key: &Key) -> Result<Option<Entry>>;

    /// Writes the value and the deadline of a key together.
    ///
    /// # Contract
    /// - S-1: without an expiry the entry never expires. With an expiry, the time to live starts at this write. `Keep`
    ///   keeps the old deadline.
    /// - S-2: the condition is evaluated and the write applied in one atomic step. A refused write is an outcome, not
    ///   an error. It changes nothing and returns the current entry.
    /// - S-3: every write gives the entry a new version, even if the bytes are the same. A version never repeats for a
    ///   key.
    /// - T-3: a write with a deadline in the past evaluates its condition, reports `Stored`, and leaves the key absent. A
    ///   watcher of a live key gets `Removed`.
    /// - V-2: later changes to the caller's buffer do not affect the store.
    /// - V-3: a value above the declared limit is `Invalid`, and the old value stays.
    ///
    /// # Errors
    /// `Invalid`; `Unsupported` for an option that the store does not support; `Capacity`; `Indeterminate`.
    ///
    /// # Cancel safety
    /// If the future is dropped, the write is not applied, was applied, or will be applied.
    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome>;

    /// Removes the entry of a key.
    ///
    /// # Contract
    /// - D-1: the outcome says if a live entry was removed. The call is idempotent, not recursive, and takes the same
    ///   conditions as `set`.
    ///
    /// # Errors
    /// The errors of [`KvStore::set`].
    ///
    /// # Cancel safety
    /// The same as for [`KvStore::set`].
    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome>;

    /// Returns true if the key has a live entry.
    ///
    /// # Contract
    /// - G-2: linearizable like `get`.
    async fn contains(&self, key: &Key) -> Result<bool> {
        Ok(self.get(key).await?.is_some())
    }

    /// Reads the live entry of a key with options.
    ///
    /// # Contract
    /// - G-4: with `fresh` the read is linearizable, whatever the store declares. `NotModified` means that the entry has
    ///   the version in the options, and carries its current deadline. The rest is as for [`KvStore::get`].
    ///
    /// # Errors
    /// The errors of [`KvStore::get`]; `Unsupported` for a version in a store without versions.
    async fn get_with(&self, key: &Key, options: &GetOptions) -> Result<GetOutcome> {
        let refuse = |error: Error| self.info().in_context(error, Operation::Get).with_key(key);
        options.check(&self.info().capabilities).map_err(refuse)?;
        Ok(GetOutcome::of(self.get(key).await?, options))
    }

    /// Returns the latest time that the store's clock can show: an entry with a later deadline was live at the call
    /// (clause T-7). The default body returns the time of the system clock, even after `close`. A store with another
    /// clock, or one that can be closed, overrides the default body.
    ///
    /// # Errors
    /// `Unavailable` if the store must ask its server for the time and the server does not answer.
    async fn time(&self) -> Result<SystemTime> {
        Ok(SystemClock.now())
    }

    /// Reads several keys.
    ///
    /// # Contract
    /// - B-1: one result for each key, in input order, including duplicates. The results are not a snapshot.
    async fn get_many(&self, keys: &[Key]) -> Vec<Result<Option<Entry>>> {
        let mut results = Vec::with_capacity(keys.len());
        for key in keys {
            results.push(self.get(key).await);
        }
        results
    }

    /// Writes several keys. Writes of the same key apply in input order.
    ///
    /// # Contract
    /// - B-1: not atomic. There is one outcome for each write, in input order, and each write can fail separately.
    ///
    /// # Cancel safety
    /// If the future is dropped, each write separately is not applied, was applied, or will be applied.
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
    /// - B-1: not atomic. There is one outcome for each key, in input order, and each removal can fail separately.
    ///
    /// # Cancel safety
    /// The same as for [`KvStore::set_many`].
    async fn delete_many(&self, keys: &[Key]) -> Vec<Result<DeleteOutcome>> {
        let mut outcomes = Vec::with_capacity(keys.len());
        for key in keys {
            outcomes.push(self.delete(key, &DeleteOptions::default()).await);
        }
        outcomes
    }

    /// Returns one page of live entries in key order.
    ///
    /// # Contract
    /// - L-1: the result is `prefix ∩ after ∩ before`, including the prefix's own key, in key order or reversed,
    ///   without duplicates.
    /// - L-2: an entry that is present during the whole listing appears exactly once. Pages are not a snapshot.
    /// - L-3: a page ends at `limit` or `max_page_bytes`. With a `Native` list the cost of a page grows with the
    ///   result, not with the store.
    /// - L-4: foreign data in the same database is ignored.
    ///
    /// # Errors
    /// `Unsupported` without [`Capability::List`]; `Invalid` for a limit of zero.
    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        let _ = query;
        Err(self.info().unsupported(Operation::List, Capability::List))
    }

    /// Removes everything that a prefix covers and returns the number of live entries removed.
    ///
    /// # Contract
    /// - L-5: not atomic. Entries that existed at the call and were not written since are removed.
    ///
    /// # Errors
    /// `Unsupported` without [`Capability::List`].
    ///
    /// # Cancel safety
    /// If the future is dropped, none, some or all of the entries are removed.
    async fn clear(&self, prefix: &KeyPrefix) -> Result<u64> {
        let _ = prefix;
        Err(self.info().unsupported(Operation::Clear, Capability::List))
    }

    /// Changes the deadline of a live entry. Returns false if there is none.
    ///
    /// # Contract
    /// - T-5: the new deadline may be later, earlier or never. Value and version stay.
    ///
    /// # Errors
    /// `Unsupported` without [`Capability::Touch`].
    ///
    /// # Cancel safety
    /// The same as for [`KvStore::set`].
    async fn touch(&self, key: &Key, expiry: NewExpiry) -> Result<bool> {
        let _ = (key, expiry);
        Err(self.info().unsupported(Operation::Touch, Capability::Touch))
    }

    /// Adds to a counter, which is stored as decimal text, and returns the sum.
    ///
    /// # Contract
    /// - C-1: a missing counter is created with `by`. The arithmetic is exact over the whole range of `i64`, and the
    ///   deadline stays. Overflow or a value that is not a number is `Invalid` and changes nothing.
    ///
    /// # Errors
    /// `Unsupported` without [`Capability::Counters`]; `Invalid`; `Indeterminate`.
    ///
    /// # Cancel safety
    /// The same as for [`KvStore::set`].
    async fn increment(&self, key: &Key, by: i64, options: &IncrementOptions) -> Result<i64> {
        let _ = (key, by, options);
        Err(self.info().unsupported(Operation::Increment, Capability::Counters))
    }

    /// Applies checks and mutations of several keys, all or nothing.
    ///
    /// # Contract
    /// - X-1: checks and mutations apply in order, all or nothing, also across a crash. After any read has returned one
    ///   of the effects, every later read returns all of them or newer data.
    ///
    /// # Errors
    /// `Unsupported` without [`Capability::Transactions`] or for keys that the store cannot change together; `Invalid`;
    /// `Indeterminate`.
    ///
    /// # Cancel safety
    /// The same as for [`KvStore::set`], for the transaction as a whole.
    async fn commit(&self, transaction: &Transaction) -> Result<CommitOutcome> {
        let _ = transaction;
        Err(self.info().unsupported(Operation::Commit, Capability::Transactions))
    }

    /// Watches the changes of keys.
    ///
    /// # Contract
    /// - W-1: the watch is active when the call returns. Every later write that becomes visible is reported, whatever
    ///   operation makes it, unless a later report of the same key supersedes it.
    /// - W-2: the reports of a key never go back in time, and they carry the version that `get` returns.
    /// - W-3: possible loss is reported as a `Gap`. Memory is bounded, and a slow watcher never blocks a writer.
    /// - W-4: values of any size are reported.
    /// - W-6: after a `Suspended` there is always a `Gap` or the end of the stream.
    /// - W-7: after a report of a key, `get` on the same handle returns that write or a newer one.
    /// - W-8: a write that is acknowledged while a watch with a snapshot opens is in the snapshot, or is reported after
    ///   the snapshot.
    ///
    /// # Errors
    /// `Unsupported` without [`Capability::Watch`].
    async fn watch(&self, query: &WatchQuery) -> Result<WatchStream> {
        let _ = query;
        Err(self.info().unsupported(Operation::Watch, Capability::Watch))
    }

    /// Registers a sink that the store calls for each change of the target.
    ///
    /// # Contract
    /// - W-1: the registration is active when the call returns, and covers the same changes as a watch.
    /// - W-5: the sink learns of a possible loss within [`StoreInfo::watch_loss_bound`].
    ///
    /// # Errors
    /// `Unsupported` without [`Capability::Sinks`].
    async fn watch_into(&self, target: &WatchTarget, sink: Arc<dyn ChangeSink>) -> Result<Registration> {
        let _ = (target, sink);
        Err(self.info().unsupported(Operation::Watch, Capability::Sinks))
    }

    /// Sends a message to the current subscribers of a channel. The message is not stored.
    ///
    /// # Contract
    /// - P-1: every current subscriber receives the message once, and receives the messages of one publisher in order.
    ///   A channel without subscribers is not an error.
    ///
    /// # Errors
    /// `Unsupported` without [`Capability::Messages`]; `Invalid` for a message over the limit.
    async fn publish(&self, channel: &Key, message: Bytes) -> Result<()> {
        let _ = (channel, message);
        Err(self.info().unsupported(Operation::Publish, Capability::Messages))
    }

    /// Subscribes to the channels under a prefix.
    ///
    /// # Contract
    /// - P-1: the subscription is active when the call returns. Possible loss is reported as a `Gap`.
    /// - P-2: dropping the stream frees its resources, including those on the server.
    ///
    /// # Errors
    /// `Unsupported` without [`Capability::Messages`].
    async fn subscribe(&self, channels: &KeyPrefix) -> Result<MessageStream> {
        let _ = channels;
        Err(self.info().unsupported(Operation::Subscribe, Capability::Messages))
    }

    /// Checks that the backend answers. The default body always succeeds, even after `close`. A store that can be
    /// closed overrides the default body.
    ///
    /// # Errors
    /// `Unavailable` if the backend does not answer.
    async fn ping(&self) -> Result<()> {
        Ok(())
    }

    /// Waits until all acknowledged writes are as durable as the backend can make them. The default body returns at
    /// once, even after `close`. A store that can be closed overrides it.
    async fn flush(&self) -> Result<()> {
        Ok(())
    }

    /// Frees the space of expired entries and returns their number. Reads do not depend on the sweep. The default body
    /// frees nothing and succeeds even after `close`. A store that can be closed overrides it.
    ///
    /// # Contract
    /// - T-6: the sweep finds expired entries through an index by deadline, without a full scan.
    async fn sweep(&self) -> Result<u64> {
        Ok(0)
    }

    /// Flushes and closes the store for all clones of the handle. Closing again succeeds.
    ///
    /// # Contract
    /// - R-3: pending work is flushed, later calls fail with `Closed`, and streams end.
    async fn close(&self) -> Result<()> {
        self.flush().await
    }
}
