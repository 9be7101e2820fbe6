//! Replays detect faulty stores. Each of these stores has one fault.

#![allow(clippy::unwrap_used, reason = "a test and its helpers may panic")]

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
enum Fault {
    None,
    /// Sometimes a get repeats the result of an earlier get of the key.
    StaleGet,
    /// Sometimes a set is acknowledged and not applied.
    LostSet,
    /// A set of an existing key keeps the old value.
    FirstWins,
    /// A refused condition is reported as stored.
    CasAlwaysYes,
    /// A conditional write is applied and reported as refused.
    CasAlwaysNo,
    /// Every delete reports a missing entry.
    DeleteSaysMissing,
    /// A delete is acknowledged and not applied.
    DeleteDoesNothing,
    /// A list lacks its first entry.
    ShortList,
    /// A list has its last entry twice.
    ListRepeats,
    /// A list is in reverse order.
    ListBackwards,
    /// Entries never expire.
    NoDeadline,
    /// Sometimes a get fails.
    FailingGet,
    /// Sometimes the outcome of a set is indeterminate. Half of these writes are applied.
    IndeterminateSet,
}

#[derive(Debug)]
struct FaultyStore {
    inner: Arc<dyn KvStore>,
    fault: Fault,
    calls: AtomicU64,
    seen: Mutex<HashMap<Key, Option<Entry>>>,
}

impl FaultyStore {
    /// True on every `n`th call.
    fn every_nth(&self, n: u64) -> bool {
        self.calls.fetch_add(1, Ordering::Relaxed) % n == n - 1
    }
}

#[async_trait]
impl KvStore for FaultyStore {
    delegate_store!(self.inner, except get set delete list);

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        if self.fault == Fault::FailingGet && self.every_nth(100) {
            return Err(Error::unavailable("the test injects this error"));
        }
        let found = self.inner.get(key).await?;
        if self.fault == Fault::StaleGet {
            let earlier = self.seen.lock().unwrap().entry(key.clone()).or_insert_with(|| found.clone()).clone();
            if self.every_nth(10) {
                return Ok(earlier);
            }
        }
        Ok(found)
    }

    async fn set(&self, key: &Key, value: Bytes, options: &SetOptions) -> Result<SetOutcome> {
        let stored = SetOutcome::Stored { version: Some(Version::random()), previous: None };
        match self.fault {
            Fault::LostSet if self.every_nth(50) => Ok(stored),
            Fault::FirstWins if self.inner.contains(key).await? => Ok(stored),
            Fault::NoDeadline => self.inner.set(key, value, &options.clone().with_expiry(Expiry::Never)).await,
            Fault::IndeterminateSet if self.every_nth(20) => {
                if self.every_nth(2) {
                    let _ = self.inner.set(key, value, options).await?;
                }
                Err(Error::indeterminate(None, "the test injects this error"))
            }
            Fault::CasAlwaysYes if options.when != When::Always => {
                let _ = self.inner.set(key, value, options).await?;
                Ok(stored)
            }
            Fault::CasAlwaysNo if options.when != When::Always => {
                let _ = self.inner.set(key, value, options).await?;
                Ok(SetOutcome::Refused { current: None })
            }
            _ => self.inner.set(key, value, options).await,
        }
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<DeleteOutcome> {
        match self.fault {
            Fault::DeleteSaysMissing => {
                let _ = self.inner.delete(key, options).await?;
                Ok(DeleteOutcome::Missing)
            }
            Fault::DeleteDoesNothing if self.inner.contains(key).await? => {
                Ok(DeleteOutcome::Deleted { previous: None })
            }
            _ => self.inner.delete(key, options).await,
        }
    }

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        let mut page = self.inner.list(query).await?;
        match self.fault {
            Fault::ShortList => drop(page.items.drain(..1.min(page.items.len()))),
            Fault::ListRepeats => page.items.extend(page.items.last().cloned()),
            Fault::ListBackwards => page.items.reverse(),
            _ => {}
        }
        Ok(page)
    }
}

/// Operations that the recording lacks: deletes of existing entries, and a cas that is refused.
const ADDITIONAL: &str = r#"
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

async fn replay(fault: Fault, clients: usize, recorded: &str, prefill: Option<Prefill>) -> Report {
    let inner = Arc::clone(anykv::open("memory:").await.unwrap().store());
    let store = FaultyStore { inner, fault, calls: AtomicU64::new(0), seen: Mutex::default() };
    let workload = if recorded.is_empty() {
        Workload::read(File::open(support::workload()).unwrap(), Some(3_000)).unwrap()
    } else {
        Workload::read(recorded.trim_start().as_bytes(), None).unwrap()
    };
    let settings = Settings { clients, prefill, ..Settings::default() };
    let replay = Replay::new(&Kv::new(store), workload, settings).unwrap();
    replay.run(&Progress::hidden()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_correct_store_is_clean() {
    for clients in [1, 16] {
        for recorded in ["", ADDITIONAL] {
            let report = replay(Fault::None, clients, recorded, None).await;
            assert!(report.is_clean() && report.unchecked == 0, "{report}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_recorded_workload_detects_faults() {
    for fault in
        [Fault::StaleGet, Fault::LostSet, Fault::CasAlwaysNo, Fault::ShortList, Fault::ListRepeats, Fault::NoDeadline]
    {
        for clients in [1, 16] {
            let report = replay(fault, clients, "", None).await;
            assert!(report.wrong > 0 && report.errors == 0 && !report.problems.is_empty(), "{fault:?}: {report}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_few_operations_detect_faults() {
    for fault in [
        Fault::FirstWins,
        Fault::CasAlwaysYes,
        Fault::CasAlwaysNo,
        Fault::DeleteSaysMissing,
        Fault::DeleteDoesNothing,
        Fault::ShortList,
        Fault::ListRepeats,
        Fault::ListBackwards,
        Fault::NoDeadline,
    ] {
        let report = replay(fault, 1, ADDITIONAL, None).await;
        assert!(report.wrong > 0, "{fault:?}: {report}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_checked_against_the_prefill() {
    let list = r#"{"op":"list","key":["_fedify","publicKey"]}"#;
    let prefill = Prefill::production(3).scaled(0.001);
    assert!(replay(Fault::None, 1, list, Some(prefill)).await.is_clean());
    for fault in [Fault::ShortList, Fault::ListRepeats, Fault::ListBackwards] {
        assert!(replay(fault, 1, list, Some(prefill)).await.wrong > 0, "{fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_operations_count_as_errors_and_not_as_wrong_results() {
    let report = replay(Fault::FailingGet, 4, "", None).await;
    assert!(report.errors > 0 && report.wrong == 0 && !report.is_clean(), "{report}");
    let report = replay(Fault::IndeterminateSet, 4, "", None).await;
    assert!(report.errors > 0 && report.wrong == 0 && report.unchecked > 0, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn clear_removes_everything_that_a_replay_wrote() {
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
