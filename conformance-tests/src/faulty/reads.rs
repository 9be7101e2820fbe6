//! Reads with options and times that are wrong, and reads that go back.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use kv_core::{
    Clock, Entry, Expires, GetOptions, GetOutcome, Key, KvStore, Reads, Result, SetOptions, SetOutcome, StoreInfo,
    SystemClock, WatchEvent, WatchQuery, WatchStream, delegate_store,
};
use tokio::sync::broadcast;

use super::faults;
use super::hidden::Hidden;

faults! { reads:
    /// Says that its reads are bounded, without the capability that callers look for.
    bounded_without_the_capability: "G-3"
        ["reads/are_as_declared"]
        |inner, _clock| ChangedReads::new(inner, Defect::UndeclaredBound);
    /// Returns the entry before the last one as the current entry of a refused set, from a copy that lags.
    refusals_show_a_copy: "G-3"
        ["reads/never_go_back"]
        |inner, _clock| ChangedReads::new(inner, Defect::OldRefusals);
    /// Finds nothing with `fresh`, because it reads another table.
    fresh_reads_find_nothing: "G-4"
        ["reads/with_options_are_reads"]
        |inner, _clock| ChangedReads::new(inner, Defect::FreshIsAbsent);
    /// Answers `NotModified` for every entry.
    nothing_is_modified: "G-4"
        ["reads/with_a_version_return_no_known_value"]
        |inner, _clock| ChangedReads::new(inner, Defect::NeverModified);
    /// Shows no deadline in `NotModified`, because the version did not change.
    not_modified_never_expires: "G-4"
        ["reads/with_a_version_show_the_deadline"]
        |inner, _clock| ChangedReads::new(inner, Defect::NotModifiedNeverExpires);
    /// Returns the time at which the store was opened.
    time_stands_still: "T-7"
        ["reads/of_the_time_are_not_behind", "reads/of_the_time_judge_deadlines"]
        |inner, clock| ChangedReads { opened_at: clock.now(), ..ChangedReads::new(inner, Defect::TimeStandsStill) };
    /// Reports a set before it is applied.
    reports_before_the_write: "W-7"
        ["watch_changes/reads_after_a_report"]
        |inner, _clock| EarlyReports { inner, sender: broadcast::Sender::new(1_024) };
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Defect {
    UndeclaredBound,
    OldRefusals,
    FreshIsAbsent,
    NeverModified,
    NotModifiedNeverExpires,
    TimeStandsStill,
}

struct ChangedReads {
    inner: Arc<dyn KvStore>,
    info: StoreInfo,
    defect: Defect,
    opened_at: SystemTime,
    /// The last entry that a refused set showed for each key.
    copies: Hidden<std::collections::HashMap<Key, Entry>>,
}

impl ChangedReads {
    fn new(inner: Arc<dyn KvStore>, defect: Defect) -> Self {
        let mut info = inner.info().clone();
        if defect == Defect::UndeclaredBound {
            info.reads = Reads::Bounded(Duration::from_secs(1));
        }
        Self { inner, info, defect, opened_at: SystemTime::UNIX_EPOCH, copies: Hidden::default() }
    }
}

impl fmt::Debug for ChangedReads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChangedReads").finish_non_exhaustive()
    }
}

#[async_trait]
impl KvStore for ChangedReads {
    delegate_store!(self.inner, except info get_with time set);

    fn info(&self) -> &StoreInfo {
        &self.info
    }

    async fn get_with(&self, key: &Key, options: &GetOptions) -> Result<GetOutcome> {
        let outcome = self.inner.get_with(key, options).await?;
        Ok(match (self.defect, outcome) {
            (Defect::FreshIsAbsent, _) if options.fresh => GetOutcome::Absent,
            (Defect::NeverModified, GetOutcome::Found(entry)) if options.unless_version.is_some() => {
                GetOutcome::NotModified { expires: entry.expires }
            }
            (Defect::NotModifiedNeverExpires, GetOutcome::NotModified { .. }) => {
                GetOutcome::NotModified { expires: Expires::Never }
            }
            (_, outcome) => outcome,
        })
    }

    async fn time(&self) -> Result<SystemTime> {
        if self.defect == Defect::TimeStandsStill { Ok(self.opened_at) } else { self.inner.time().await }
    }

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        let outcome = self.inner.set(key, value, options).await?;
        let (Defect::OldRefusals, SetOutcome::Refused { current: Some(entry) }) = (self.defect, &outcome) else {
            return Ok(outcome);
        };
        let copy = self.copies.lock().insert(key.clone(), entry.clone());
        Ok(SetOutcome::Refused { current: Some(copy.unwrap_or_else(|| entry.clone())) })
    }
}

/// Reports a set before it is applied.
#[derive(Debug)]
struct EarlyReports {
    inner: Arc<dyn KvStore>,
    sender: broadcast::Sender<WatchEvent>,
}

#[async_trait]
impl KvStore for EarlyReports {
    delegate_store!(self.inner, except set watch);

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        let _ = self.sender.send(WatchEvent::Set { key: key.clone(), entry: Some(Entry::new(value.clone())) });
        SystemClock.sleep(Duration::from_millis(2)).await;
        self.inner.set(key, value, options).await
    }

    async fn watch(&self, query: &WatchQuery) -> Result<WatchStream> {
        let (events, target) = (self.inner.watch(query).await?, query.target.clone());
        let early = stream::unfold(self.sender.subscribe(), |mut receiver| async move {
            loop {
                match receiver.recv().await {
                    Ok(event) => return Some((Ok(event), receiver)),
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return None,
                }
            }
        });
        let early = early.filter(move |event| {
            std::future::ready(matches!(event, Ok(WatchEvent::Set { key, .. }) if target.covers(key)))
        });
        Ok(Box::pin(stream::select(events, early)))
    }
}
