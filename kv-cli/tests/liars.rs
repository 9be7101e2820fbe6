//! The checker of a replay can fail: each of these stores lies in one way, and is caught.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod support;

use std::collections::HashMap;
use std::fs::File;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use anykv::{
    Bytes, DeleteOptions, DeleteOutcome, Entry, Error, Expiry, Key, Kv, KvStore, ListPage, ListQuery, Result,
    SetOptions, SetOutcome, Version, When, delegate_store,
};
use async_trait::async_trait;
use kv_cli::Progress;
use kv_cli::replay::{Prefill, Replay, Report, Settings, Workload};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Lie {
    None,
    /// Now and then a get gives what an earlier get of the key gave.
    StaleGet,
    /// Now and then a set is acknowledged and not done.
    LostSet,
    /// A set keeps the old value, once there is one.
    FirstWins,
    /// A refused condition is reported as stored.
    CasAlwaysYes,
    /// A conditional write is done and reported as refused.
    CasAlwaysNo,
    /// A delete is reported as having found nothing.
    DeleteSaysMissing,
    /// A delete is acknowledged and not done.
    DeleteDoesNothing,
    /// A list lacks its first entry.
    ShortList,
    /// A list has its last entry twice.
    ListRepeats,
    /// A list comes in reverse order.
    ListBackwards,
    /// Entries live for ever.
    NoDeadline,
    /// Now and then a get fails.
    FailingGet,
    /// Now and then a set is done, or not, and its outcome is lost.
    IndeterminateSet,
}

#[derive(Debug)]
struct Liar {
    inner: Arc<dyn KvStore>,
    lie: Lie,
    calls: AtomicU64,
    seen: Mutex<HashMap<Key, Option<Entry>>>,
}

impl Liar {
    /// Every `n`th call.
    fn now_and_then(&self, n: u64) -> bool {
        self.calls.fetch_add(1, Ordering::Relaxed) % n == n - 1
    }
}

#[async_trait]
impl KvStore for Liar {
    delegate_store!(self.inner, except get set delete list);

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        if self.lie == Lie::FailingGet && self.now_and_then(100) {
            return Err(Error::unavailable("the test said so"));
        }
        let found = self.inner.get(key).await?;
        if self.lie == Lie::StaleGet {
            let earlier = self.seen.lock().unwrap().entry(key.clone()).or_insert_with(|| found.clone()).clone();
            if self.now_and_then(10) {
                return Ok(earlier);
            }
        }
        Ok(found)
    }

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        let stored = SetOutcome::Stored { version: Some(Version::random()), previous: None };
        match self.lie {
            Lie::LostSet if self.now_and_then(50) => Ok(stored),
            Lie::FirstWins if self.inner.contains(key).await? => Ok(stored),
            Lie::NoDeadline => self.inner.set(key, value, &options.clone().with_expiry(Expiry::Never)).await,
            Lie::IndeterminateSet if self.now_and_then(20) => {
                if self.now_and_then(2) {
                    let _ = self.inner.set(key, value, options).await?;
                }
                Err(Error::indeterminate(None, "the test said so"))
            }
            Lie::CasAlwaysYes if options.when != When::Always => {
                let _ = self.inner.set(key, value, options).await?;
                Ok(stored)
            }
            Lie::CasAlwaysNo if options.when != When::Always => {
                let _ = self.inner.set(key, value, options).await?;
                Ok(SetOutcome::Refused { current: None })
            }
            _ => self.inner.set(key, value, options).await,
        }
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
        match self.lie {
            Lie::DeleteSaysMissing => {
                let _ = self.inner.delete(key, options).await?;
                Ok(DeleteOutcome::Missing)
            }
            Lie::DeleteDoesNothing if self.inner.contains(key).await? => Ok(DeleteOutcome::Deleted { previous: None }),
            _ => self.inner.delete(key, options).await,
        }
    }

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        let mut page = self.inner.list(query).await?;
        match self.lie {
            Lie::ShortList => drop(page.items.drain(..1.min(page.items.len()))),
            Lie::ListRepeats => page.items.extend(page.items.last().cloned()),
            Lie::ListBackwards => page.items.reverse(),
            _ => {}
        }
        Ok(page)
    }
}

/// What the recording lacks: deletes that find something, and a cas that fails.
const MORE: &str = r#"
{"op":"set","key":["more","a"],"value":1,"ttl":600000}
{"op":"get","key":["more","a"]}
{"op":"cas","key":["more","a"],"value":2,"ok":true}
{"op":"cas","key":["more","a"],"expected":3,"value":2,"ok":true}
{"op":"delete","key":["more","a"]}
{"op":"get","key":["more","a"],"hit":true}
{"op":"set","key":["more","a"],"value":null}
{"op":"cas","key":["more","a"],"expected":null}
{"op":"get","key":["more","a"]}
{"op":"cas","key":["more","a"],"value":{"z":1,"a":2.5},"ttl":600000}
{"op":"cas","key":["more","a"],"expected":{"a":2.5,"z":1},"value":"new"}
{"op":"set","key":["more","b"],"value":1}
{"op":"set","key":["more","b"],"value":2}
{"op":"set","key":["more","c"],"value":2}
{"op":"list","key":["more"]}
"#;

async fn replay(lie: Lie, clients: usize, recorded: &str, prefill: Option<Prefill>) -> Report {
    let inner = Arc::clone(anykv::open("memory:").await.unwrap().store());
    let liar = Liar { inner, lie, calls: AtomicU64::new(0), seen: Mutex::default() };
    let workload = if recorded.is_empty() {
        Workload::read(File::open(support::workload()).unwrap(), Some(3_000)).unwrap()
    } else {
        Workload::read(recorded.trim_start().as_bytes(), None).unwrap()
    };
    let settings = Settings { clients, prefill, ..Settings::default() };
    let replay = Replay::new(&Kv::new(liar), workload, settings).unwrap();
    replay.run(&Progress::hidden()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_honest_store_is_clean() {
    for clients in [1, 16] {
        for recorded in ["", MORE] {
            let report = replay(Lie::None, clients, recorded, None).await;
            assert!(report.is_clean() && report.unchecked == 0, "{report}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lies_about_recorded_traffic_are_caught() {
    for lie in [Lie::StaleGet, Lie::LostSet, Lie::CasAlwaysNo, Lie::ShortList, Lie::ListRepeats, Lie::NoDeadline] {
        for clients in [1, 16] {
            let report = replay(lie, clients, "", None).await;
            assert!(report.wrong > 0 && report.errors == 0 && !report.problems.is_empty(), "{lie:?}: {report}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_lie_is_caught_on_a_few_operations() {
    for lie in [
        Lie::FirstWins,
        Lie::CasAlwaysYes,
        Lie::CasAlwaysNo,
        Lie::DeleteSaysMissing,
        Lie::DeleteDoesNothing,
        Lie::ShortList,
        Lie::ListRepeats,
        Lie::ListBackwards,
        Lie::NoDeadline,
    ] {
        let report = replay(lie, 1, MORE, None).await;
        assert!(report.wrong > 0, "{lie:?}: {report}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_checked_against_the_prefill_too() {
    let list = r#"{"op":"list","key":["_fedify","publicKey"]}"#;
    let prefill = Prefill::production(3).scaled(0.001);
    assert!(replay(Lie::None, 1, list, Some(prefill)).await.is_clean());
    for lie in [Lie::ShortList, Lie::ListRepeats, Lie::ListBackwards] {
        assert!(replay(lie, 1, list, Some(prefill)).await.wrong > 0, "{lie:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_errors_and_no_wrong_answers() {
    let report = replay(Lie::FailingGet, 4, "", None).await;
    assert!(report.errors > 0 && report.wrong == 0 && !report.is_clean(), "{report}");
    let report = replay(Lie::IndeterminateSet, 4, "", None).await;
    assert!(report.errors > 0 && report.wrong == 0 && report.unchecked > 0, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_leaves_nothing_behind() {
    let kv = anykv::open("memory:").await.unwrap();
    let workload = Workload::read(File::open(support::workload()).unwrap(), Some(500)).unwrap();
    let prefill = Some(Prefill::production(1).scaled(0.001));
    let settings = Settings { prefill, ..Settings::default() };
    let replay = Replay::new(&kv, workload, settings).unwrap();
    replay.run(&Progress::hidden()).await.unwrap();
    assert!(!kv.store().list(&ListQuery::default()).await.unwrap().items.is_empty());
    replay.clear().await.unwrap();
    assert!(kv.store().list(&ListQuery::default()).await.unwrap().items.is_empty());
}
