//! Sinks that are called late, for other keys, too long or not at all.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use kv_core::{
    ChangeSink, Clock, CommitOutcome, GapReason, Key, KeyPrefix, KvStore, Moment, Registration, Result, SystemClock,
    Transaction, WatchTarget, delegate_store,
};
use tokio::runtime::Handle;

use super::faults;

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
}

struct ChangedSinks {
    inner: Arc<dyn KvStore>,
    defect: Defect,
    /// True while an operation runs whose changes are not passed on.
    is_muted: Arc<AtomicBool>,
}

impl ChangedSinks {
    fn new(inner: Arc<dyn KvStore>, defect: Defect) -> Self {
        Self { inner, defect, is_muted: Arc::default() }
    }

    fn mute(&self, defect: Defect) {
        self.is_muted.store(self.defect == defect, Ordering::Release);
    }

    fn unmute(&self) {
        self.is_muted.store(false, Ordering::Release);
    }
}

impl fmt::Debug for ChangedSinks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChangedSinks").finish_non_exhaustive()
    }
}

#[async_trait]
impl KvStore for ChangedSinks {
    delegate_store!(self.inner, except commit clear watch_into);

    async fn commit(&self, transaction: &Transaction) -> Result<CommitOutcome> {
        self.mute(Defect::MissTransactions);
        let outcome = self.inner.commit(transaction).await;
        self.unmute();
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
        let changed = ChangedSink { sink, defect: self.defect, is_muted: Arc::clone(&self.is_muted), runtime };
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
            self.sink.changed(key);
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
