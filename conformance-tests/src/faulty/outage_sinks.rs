//! Sinks, watchers and subscribers that learn too little of an outage. The good store has a loss bound above zero.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use kv_core::{
    ChangeSink, Clock, GapReason, Key, KeyPrefix, KvStore, MessageEvent, MessageStream, Moment, Registration, Result,
    SystemClock, WatchEvent, WatchQuery, WatchStream, WatchTarget, delegate_store,
};
use tokio::task::AbortHandle;

use super::faults;

faults! { outage_sinks:
    /// Does not tell sinks of a lost connection, and calls `current` when it is made again.
    losses_are_not_told: "W-5"
        ["outage/sinks_learn_of_the_loss", "outage/caches_over_sinks_stay_fresh"]
        |inner, _clock| ChangedSinks { inner, defect: Defect::NoLoss };
    /// Calls `current` by a timer of its own, also while the connection is lost.
    heartbeats_stay_in_the_process: "W-5"
        ["outage/sinks_learn_of_the_loss"]
        |inner, _clock| ChangedSinks { inner, defect: Defect::OwnTimer };
    /// Does not call `current` again after a loss.
    never_current_again: "W-5"
        ["outage/sinks_are_current_again"]
        |inner, _clock| ChangedSinks { inner, defect: Defect::NeverAgain };
    /// Sends heartbeats over a new connection, and receives no changes over it.
    changes_end_with_the_connection: "W-5"
        ["outage/sinks_are_current_again", "outage/caches_over_sinks_stay_fresh"]
        |inner, _clock| ChangedSinks { inner, defect: Defect::NoChangesAgain };
    /// Tells sinks of a loss, and watchers only when the connection is made again.
    watchers_learn_late: "W-6"
        ["outage/watchers_learn_what_sinks_learn"]
        |inner, _clock| NotAnnounced { inner };
    /// Announces a lost connection to subscribers, and goes on without a gap when it is made again.
    subscriptions_resume_silently: "W-6"
        ["outage/subscriptions_never_resume_silently"]
        |inner, _clock| ResumedSubscriptions { inner };
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Defect {
    NoLoss,
    OwnTimer,
    NeverAgain,
    NoChangesAgain,
}

#[derive(Debug)]
struct ChangedSinks {
    inner: Arc<dyn KvStore>,
    defect: Defect,
}

#[async_trait]
impl KvStore for ChangedSinks {
    delegate_store!(self.inner, except watch_into);

    async fn watch_into(&self, target: &WatchTarget, sink: Arc<dyn ChangeSink>) -> Result<Registration> {
        let changed = Arc::new(ChangedSink { sink, defect: self.defect, was_lost: AtomicBool::new(false) });
        let registration = self.inner.watch_into(target, Arc::clone(&changed) as Arc<dyn ChangeSink>).await?;
        let timer = tokio::spawn(async move {
            if changed.defect == Defect::OwnTimer {
                loop {
                    changed.sink.current(Moment::now());
                    SystemClock.sleep(Duration::from_millis(10)).await;
                }
            }
        });
        Ok(Registration::new((registration, Timer(timer.abort_handle()))))
    }
}

/// Ends a task on drop.
struct Timer(AbortHandle);

impl Drop for Timer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct ChangedSink {
    sink: Arc<dyn ChangeSink>,
    defect: Defect,
    was_lost: AtomicBool,
}

impl fmt::Debug for ChangedSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChangedSink").finish_non_exhaustive()
    }
}

impl ChangeSink for ChangedSink {
    fn changed(&self, key: &Key) {
        if self.defect != Defect::NoChangesAgain || !self.was_lost.load(Ordering::Acquire) {
            self.sink.changed(key);
        }
    }

    fn current(&self, as_of: Moment) {
        if self.defect != Defect::NeverAgain || !self.was_lost.load(Ordering::Acquire) {
            self.sink.current(as_of);
        }
    }

    fn lost(&self, reason: GapReason) {
        self.was_lost.store(true, Ordering::Release);
        if self.defect != Defect::NoLoss || reason == GapReason::Closed {
            self.sink.lost(reason);
        }
    }
}

#[derive(Debug)]
struct NotAnnounced {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for NotAnnounced {
    delegate_store!(self.inner, except watch);

    async fn watch(&self, query: &WatchQuery) -> Result<WatchStream> {
        let events = self.inner.watch(query).await?;
        let is_kept = |event: &Result<WatchEvent>| !matches!(event, Ok(WatchEvent::Suspended { .. }));
        Ok(Box::pin(events.filter(move |event| std::future::ready(is_kept(event)))))
    }
}

#[derive(Debug)]
struct ResumedSubscriptions {
    inner: Arc<dyn KvStore>,
}

#[async_trait]
impl KvStore for ResumedSubscriptions {
    delegate_store!(self.inner, except subscribe);

    async fn subscribe(&self, channels: &KeyPrefix) -> Result<MessageStream> {
        let events = self.inner.subscribe(channels).await?;
        Ok(Box::pin(events.map(|event| match event {
            Ok(MessageEvent::Gap { reason }) => Ok(MessageEvent::Suspended { reason }),
            event => event,
        })))
    }
}
