//! Sinks that are called late, for other keys, too long or not at all.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use kv_core::{
    ChangeSink, Clock, CommitOutcome, GapReason, Key, KeyPrefix, KvStore, ListPage, ListQuery, Moment, NewExpiry,
    Registration, Result, SetOptions, SetOutcome, SystemClock, Transaction, WatchTarget, delegate_store,
};
use tokio::runtime::Handle;

use super::faults;
use super::hidden::Hidden;

faults! { sinks:
    /// Calls sinks from a task of its own, as a stream of events does, although it declares a bound of zero.
    are_called_late: "W-5"
        ["watch_sinks/of_a_zero_bound_keep_a_cache_exact"]
        |inner, _clock| ChangedSinks::new(inner, Defect::Late);
    /// Does not call sinks for the keys of a transaction.
    miss_transactions: "W-1"
        ["watch_sinks/get_transactions"]
        |inner, _clock| ChangedSinks::new(inner, Defect::MissTransactions);
    /// Calls sinks for sets and not for removals.
    miss_clears: "W-1"
        ["watch_sinks/get_every_write"]
        |inner, _clock| ChangedSinks::new(inner, Defect::MissClears);
    /// Calls every sink for every key.
    get_all_keys: "W-5"
        ["watch_sinks/get_only_their_target"]
        |inner, _clock| ChangedSinks::new(inner, Defect::AllKeys);
    /// Never tells a sink that it is current.
    are_never_current: "W-5"
        ["watch_sinks/are_current"]
        |inner, _clock| ChangedSinks::new(inner, Defect::NeverCurrent);
    /// Goes on calling a sink whose registration was dropped.
    never_end: "W-5"
        ["watch_sinks/end_with_their_registration"]
        |inner, _clock| ChangedSinks::new(inner, Defect::NeverEnd);
    /// Calls sinks before it begins a set.
    are_called_before_the_section: "W-5"
        ["zero_bound/writes_call_sinks_in_their_section"]
        |inner, _clock| ChangedSinks::new(inner, Defect::BeforeSets);
    /// Calls sinks after a set has become visible.
    are_called_after_the_section: "W-5"
        ["zero_bound/writes_call_sinks_in_their_section"]
        |inner, _clock| ChangedSinks::new(inner, Defect::AfterSets);
    /// Calls sinks after a transaction has become visible.
    are_called_after_a_transaction: "W-5"
        ["zero_bound/transactions_call_sinks_in_their_section"]
        |inner, _clock| ChangedSinks::new(inner, Defect::AfterCommits);
    /// Does not call sinks for a touch.
    miss_touches: "W-5"
        ["zero_bound/writes_call_sinks_in_their_section", "watch_sinks/get_every_write"]
        |inner, _clock| ChangedSinks::new(inner, Defect::MissTouches);
    /// Lists from a copy while a write is applied.
    lists_do_not_wait: "W-5"
        ["zero_bound/writes_call_sinks_in_their_section"]
        |inner, _clock| ChangedSinks::new(inner, Defect::OldLists);
    /// Does not tell sinks that the store was closed.
    miss_the_close: "W-5"
        ["watch_sinks/learn_of_close"]
        |inner, _clock| ChangedSinks::new(inner, Defect::MissClose);
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Defect {
    Late,
    MissTransactions,
    MissClears,
    AllKeys,
    NeverCurrent,
    NeverEnd,
    MissClose,
    BeforeSets,
    AfterSets,
    AfterCommits,
    MissTouches,
    OldLists,
}

struct ChangedSinks {
    inner: Arc<dyn KvStore>,
    defect: Defect,
    /// True while an operation runs whose changes are not passed on.
    is_muted: Arc<AtomicBool>,
    /// True while a sink is called.
    is_called: Arc<AtomicBool>,
    /// The registered sinks, for calls at a wrong time.
    sinks: Hidden<Vec<Arc<dyn ChangeSink>>>,
    /// A copy of the first page of everything.
    page: Hidden<ListPage>,
}

impl ChangedSinks {
    fn new(inner: Arc<dyn KvStore>, defect: Defect) -> Self {
        let (sinks, page) = (Hidden::default(), Hidden::default());
        Self { inner, defect, is_muted: Arc::default(), is_called: Arc::default(), sinks, page }
    }

    fn mute(&self, defect: Defect) {
        self.is_muted.store(self.defect == defect, Ordering::Release);
    }

    fn unmute(&self) {
        self.is_muted.store(false, Ordering::Release);
    }

    /// Calls the sinks for these keys if the store has the defect.
    fn call(&self, defect: Defect, keys: &[Key]) {
        if self.defect == defect {
            let sinks = self.sinks.lock().clone();
            for sink in &sinks {
                for key in keys {
                    sink.changed(key);
                }
            }
        }
    }
}

impl fmt::Debug for ChangedSinks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChangedSinks").finish_non_exhaustive()
    }
}

#[async_trait]
impl KvStore for ChangedSinks {
    delegate_store!(self.inner, except set list touch commit clear watch_into);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        if self.defect == Defect::OldLists {
            let page = self.inner.list(&ListQuery::default()).await?;
            *self.page.lock() = page;
        }
        self.call(Defect::BeforeSets, std::slice::from_ref(key));
        if matches!(self.defect, Defect::BeforeSets | Defect::AfterSets) {
            self.mute(self.defect);
        }
        let outcome = self.inner.set(key, value, options).await;
        self.unmute();
        self.call(Defect::AfterSets, std::slice::from_ref(key));
        outcome
    }

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        if self.defect == Defect::OldLists && self.is_called.load(Ordering::Acquire) {
            return Ok(self.page.lock().clone());
        }
        self.inner.list(query).await
    }

    async fn touch(&self, key: &Key, expiry: NewExpiry) -> Result<bool> {
        self.mute(Defect::MissTouches);
        let found = self.inner.touch(key, expiry).await;
        self.unmute();
        found
    }

    async fn commit(&self, transaction: &Transaction) -> Result<CommitOutcome> {
        self.mute(Defect::MissTransactions);
        if self.defect == Defect::AfterCommits {
            self.mute(Defect::AfterCommits);
        }
        let outcome = self.inner.commit(transaction).await;
        self.unmute();
        let keys: Vec<_> = transaction.mutations.iter().map(|mutation| mutation.key().clone()).collect();
        self.call(Defect::AfterCommits, &keys);
        outcome
    }

    async fn clear(&self, prefix: &KeyPrefix) -> Result<u64> {
        self.mute(Defect::MissClears);
        let cleared = self.inner.clear(prefix).await;
        self.unmute();
        cleared
    }

    async fn watch_into(&self, target: &WatchTarget, sink: Arc<dyn ChangeSink>) -> Result<Registration> {
        let runtime = Handle::current();
        self.sinks.lock().push(Arc::clone(&sink));
        let (is_muted, is_called) = (Arc::clone(&self.is_muted), Arc::clone(&self.is_called));
        let changed = ChangedSink { sink, defect: self.defect, is_muted, is_called, runtime };
        let all = WatchTarget::from(KeyPrefix::ALL);
        let target = if self.defect == Defect::AllKeys { &all } else { target };
        let registration = self.inner.watch_into(target, Arc::new(changed)).await?;
        if self.defect == Defect::NeverEnd {
            std::mem::forget(registration);
            return Ok(Registration::new(()));
        }
        Ok(registration)
    }
}

struct ChangedSink {
    sink: Arc<dyn ChangeSink>,
    defect: Defect,
    is_muted: Arc<AtomicBool>,
    is_called: Arc<AtomicBool>,
    runtime: Handle,
}

impl fmt::Debug for ChangedSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChangedSink").finish_non_exhaustive()
    }
}

impl ChangeSink for ChangedSink {
    fn changed(&self, key: &Key) {
        if self.defect == Defect::Late {
            let (sink, key) = (Arc::clone(&self.sink), key.clone());
            self.runtime.spawn(async move {
                SystemClock.sleep(Duration::from_millis(1)).await;
                sink.changed(&key);
            });
        } else if !self.is_muted.load(Ordering::Acquire) {
            self.is_called.store(true, Ordering::Release);
            self.sink.changed(key);
            self.is_called.store(false, Ordering::Release);
        }
    }

    fn current(&self, as_of: Moment) {
        if self.defect != Defect::NeverCurrent {
            self.sink.current(as_of);
        }
    }

    fn lost(&self, reason: GapReason) {
        if self.defect != Defect::MissClose {
            self.sink.lost(reason);
        }
    }
}
