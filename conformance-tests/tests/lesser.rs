//! Stores with fewer capabilities pass: cases that need more are skipped, and other cases check the refusal.

mod support;

use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use conformance_tests::Suite;
use futures_util::StreamExt;
use kv_core::{
    Capabilities, Capability, ChangeSink, CommitOutcome, DeleteOptions, DeleteOutcome, Entry, Expires,
    IncrementOptions, Key, KeyPrefix, KvStore, List, ListPage, ListQuery, MessageStream, NewExpiry, Reach,
    Registration, Result, SetOptions, SetOutcome, StoreInfo, Transaction, Transactions, WatchEvent, WatchQuery,
    WatchStream, WatchTarget,
};
use kv_memory::CAPABILITIES;

/// A good store that hides some of its capabilities.
#[derive(Debug)]
struct Limited {
    inner: Arc<dyn KvStore>,
    info: StoreInfo,
}

impl Limited {
    fn hide(&self, entry: Entry) -> Entry {
        let mut entry = entry;
        entry.version = entry.version.filter(|_| self.info.capabilities.versions);
        if !self.info.capabilities.deadlines {
            entry.expires = Expires::Unknown;
        }
        entry
    }
}

#[async_trait]
impl KvStore for Limited {
    fn info(&self) -> &StoreInfo {
        &self.info
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        Ok(self.inner.get(key).await?.map(|entry| self.hide(entry)))
    }

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        options.check(&self.info.capabilities)?;
        Ok(match self.inner.set(key, value, options).await? {
            SetOutcome::Stored { version, previous } => SetOutcome::Stored {
                version: version.filter(|_| self.info.capabilities.versions),
                previous: previous.map(|entry| self.hide(entry)),
            },
            SetOutcome::Refused { current } => SetOutcome::Refused { current: current.map(|entry| self.hide(entry)) },
        })
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
        options.check(&self.info.capabilities)?;
        Ok(match self.inner.delete(key, options).await? {
            DeleteOutcome::Deleted { previous } => {
                DeleteOutcome::Deleted { previous: previous.map(|entry| self.hide(entry)) }
            }
            DeleteOutcome::Missing => DeleteOutcome::Missing,
            DeleteOutcome::Refused { current } => {
                DeleteOutcome::Refused { current: current.map(|entry| self.hide(entry)) }
            }
        })
    }

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        query.check(&self.info.capabilities)?;
        let mut page = self.inner.list(query).await?;
        for item in &mut page.items {
            item.entry = item.entry.take().map(|entry| self.hide(entry));
        }
        Ok(page)
    }

    async fn clear(&self, prefix: &KeyPrefix) -> Result<u64> {
        self.info.capabilities.require(Capability::List)?;
        self.inner.clear(prefix).await
    }

    async fn touch(&self, key: &Key, expiry: NewExpiry) -> Result<bool> {
        self.info.capabilities.require(Capability::Touch)?;
        self.inner.touch(key, expiry).await
    }

    async fn increment(&self, key: &Key, by: i64, options: &IncrementOptions) -> Result<i64> {
        options.check(&self.info.capabilities)?;
        self.inner.increment(key, by, options).await
    }

    async fn commit(&self, transaction: &Transaction) -> Result<CommitOutcome> {
        transaction.validate(&self.info.capabilities, &self.info.limits)?;
        let mut outcome = self.inner.commit(transaction).await?;
        if let (CommitOutcome::Committed { versions }, false) = (&mut outcome, self.info.capabilities.versions) {
            versions.fill(None);
        }
        Ok(outcome)
    }

    async fn watch(&self, query: &WatchQuery) -> Result<WatchStream> {
        query.check(&self.info.capabilities)?;
        let hidden = Self { inner: Arc::clone(&self.inner), info: self.info.clone() };
        let stream = self.inner.watch(query).await?;
        Ok(Box::pin(stream.map(move |event| match event {
            Ok(WatchEvent::Set { key, entry: Some(entry) }) => {
                Ok(WatchEvent::Set { key, entry: Some(hidden.hide(entry)) })
            }
            event => event,
        })))
    }

    async fn time(&self) -> Result<SystemTime> {
        self.inner.time().await
    }

    async fn watch_into(&self, target: &WatchTarget, sink: Arc<dyn ChangeSink>) -> Result<Registration> {
        self.info.capabilities.require(Capability::Sinks)?;
        self.inner.watch_into(target, sink).await
    }

    async fn publish(&self, channel: &Key, message: Bytes) -> Result<()> {
        self.info.capabilities.require(Capability::Messages)?;
        self.inner.publish(channel, message).await
    }

    async fn subscribe(&self, channels: &KeyPrefix) -> Result<MessageStream> {
        self.info.capabilities.require(Capability::Messages)?;
        self.inner.subscribe(channels).await
    }

    async fn ping(&self) -> Result<()> {
        self.inner.ping().await
    }

    async fn flush(&self) -> Result<()> {
        self.inner.flush().await
    }

    async fn sweep(&self) -> Result<u64> {
        self.inner.sweep().await
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}

fn suite(name: &str, capabilities: Capabilities) -> Suite {
    support::suite(name, move |inner, _| {
        let StoreInfo { name, limits, watch_loss_bound, .. } = inner.info().clone();
        let info = StoreInfo::new(name, capabilities).with_limits(limits).with_watch_loss_bound(watch_loss_bound);
        Arc::new(Limited { inner, info })
    })
}

fn without(capability: Capability) -> Capabilities {
    let mut less = CAPABILITIES;
    match capability {
        Capability::Versions => less.versions = false,
        Capability::Deadlines => less.deadlines = false,
        Capability::Conditions => less.conditions = false,
        Capability::Previous => less.previous = false,
        Capability::List => less.list = List::None,
        Capability::Touch => less.touch = false,
        Capability::Counters => less.counters = false,
        Capability::Transactions => less.transactions = Transactions::None,
        Capability::Watch => (less.watch, less.watch_expiry) = (Reach::None, false),
        Capability::Sinks => less.sinks = false,
        Capability::Messages => less.messages = Reach::None,
        // The other capabilities are derived from these.
        _ => {}
    }
    less
}

#[tokio::test(flavor = "multi_thread")]
async fn a_case_checks_the_refusal_of_each_missing_capability() {
    for &capability in Capability::ALL.iter().filter(|&&capability| capability != Capability::Locks) {
        let suite = suite(&format!("without {capability}"), without(capability));
        assert!(!suite.capabilities().has(capability));
        let report = suite.run("refuses/").await;
        assert!(report.is_green(), "{report}");
        let count = report.cases.len();
        assert!(count > 1, "no case checks that {capability} is refused");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_the_core_level_passes() {
    let report = suite("core", Capabilities::CORE).run("").await;
    assert!(report.is_green(), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_without_versions_and_deadlines_passes() {
    let mut less = CAPABILITIES.with_transactions(Transactions::WithinFirst(1));
    (less.versions, less.deadlines, less.previous, less.touch) = (false, false, false, false);
    let report = suite("without versions and deadlines", less).run("").await;
    assert!(report.is_green(), "{report}");
}
