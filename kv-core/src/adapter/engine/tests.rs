//! The store over an engine in memory, whose calls can be made to fail.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::FutureExt;

use super::*;
use crate::clock::ManualClock;
use crate::durability::Durability;
use crate::error::{Error, ErrorKind, Result};
use crate::expiry::Expiry;
use crate::key::{Key, KeyPrefix};
use crate::options::{IncrementOptions, SetItem, SetOptions, When};
use crate::store::KvStore;
use crate::transaction::Transaction as KvTransaction;

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// The next failure of an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Fault {
    #[default]
    None,
    Put,
    NotApplied,
    Unknown,
    Sync,
    Panic,
}

#[derive(Debug, Clone, Default)]
struct MapEngine {
    map: Arc<Mutex<Map>>,
    fault: Arc<Mutex<Fault>>,
    /// `sync` waits for this lock.
    disk: Arc<Mutex<()>>,
    commits: Arc<AtomicU64>,
}

impl MapEngine {
    fn map(&self) -> MutexGuard<'_, Map> {
        self.map.lock().unwrap()
    }

    fn fail(&self, fault: Fault) {
        *self.fault.lock().unwrap() = fault;
    }

    fn has(&self, fault: Fault) -> bool {
        *self.fault.lock().unwrap() == fault
    }
}

struct Snapshot(Map);

struct Transaction {
    engine: MapEngine,
    map: Map,
}

impl Engine for MapEngine {
    type Snapshot<'e> = Snapshot;
    type Transaction<'e> = Transaction;

    fn snapshot(&self) -> Result<Snapshot> {
        Ok(Snapshot(self.map().clone()))
    }

    fn begin(&self) -> Result<Transaction> {
        Ok(Transaction { engine: self.clone(), map: self.map().clone() })
    }

    fn sync(&self) -> Result<()> {
        let _disk = self.disk.lock().unwrap();
        if self.has(Fault::Sync) { Err(Error::unavailable("the flush failed")) } else { Ok(()) }
    }
}

fn scan(map: &Map, (start, end): ByteRange<'_>, reverse: bool, visit: &mut Visit<'_>) {
    let mut range = map.range::<[u8], _>((start, end));
    while let Some((key, value)) = if reverse { range.next_back() } else { range.next() } {
        if visit(key, value).is_break() {
            return;
        }
    }
}

impl Reads for Snapshot {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        Ok(self.0.get(key).map(|value| Bytes::copy_from_slice(value)))
    }

    fn scan(&self, range: ByteRange<'_>, reverse: bool, visit: &mut Visit<'_>) -> Result<()> {
        scan(&self.0, range, reverse, visit);
        Ok(())
    }
}

impl Reads for Transaction {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        Ok(self.map.get(key).map(|value| Bytes::copy_from_slice(value)))
    }

    fn scan(&self, range: ByteRange<'_>, reverse: bool, visit: &mut Visit<'_>) -> Result<()> {
        scan(&self.map, range, reverse, visit);
        Ok(())
    }
}

impl Writes for Transaction {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        if self.engine.has(Fault::Put) && key == b"dbad" {
            return Err(Error::capacity("the disk is full"));
        }
        self.map.insert(key.to_vec(), value.to_vec());
        Ok(())
    }

    fn remove(&mut self, key: &[u8]) -> Result<()> {
        self.map.remove(key);
        Ok(())
    }

    fn commit(self) -> Result<(), CommitError> {
        assert!(!self.engine.has(Fault::Panic), "the engine panics");
        if self.engine.has(Fault::NotApplied) {
            return Err(CommitError::NotApplied(Error::capacity("the disk is full")));
        }
        *self.engine.map() = self.map;
        self.engine.commits.fetch_add(1, Ordering::SeqCst);
        if self.engine.has(Fault::Unknown) { Err(Error::unavailable("no answer").into()) } else { Ok(()) }
    }
}

fn key(name: &str) -> Key {
    Key::new([name]).unwrap()
}

async fn open(engine: &MapEngine) -> EngineStore<MapEngine> {
    let (engine, options) = (engine.clone(), EngineOptions::new("map", Durability::VOLATILE));
    EngineStore::open(options.with_clock(Arc::new(ManualClock::new())), || Ok(engine)).await.unwrap()
}

async fn set(store: &impl KvStore, name: &str) -> Result<()> {
    store.set(&key(name), "value".into(), &SetOptions::default()).await.map(|outcome| assert!(outcome.is_stored()))
}

async fn has(store: &impl KvStore, name: &str) -> bool {
    store.contains(&key(name)).await.unwrap()
}

#[tokio::test]
async fn queued_writes_share_a_commit() {
    let engine = MapEngine::default();
    let store = open(&engine).await;
    let items: Vec<_> = (0..500).map(|at| SetItem::new(key(&format!("k{at}")), "value")).collect();
    assert!(store.set_many(&items).await.iter().all(Result::is_ok));
    assert_eq!(store.list(&crate::list::ListQuery::default()).await.unwrap().items.len(), 500);
    assert!(engine.commits.load(Ordering::SeqCst) < 250, "{:?}", engine.commits);
}

#[tokio::test]
async fn a_write_that_fails_in_the_middle_fails_alone_and_leaves_nothing() {
    let engine = MapEngine::default();
    let store = open(&engine).await;
    engine.fail(Fault::Put);
    let transaction = KvTransaction::new().set(key("a"), "1", Expiry::Never).set(key("bad"), "1", Expiry::Never);
    let (good, bad, also_good) = tokio::join!(set(&store, "b"), store.commit(&transaction), set(&store, "c"));
    assert!(good.is_ok() && also_good.is_ok());
    assert_eq!(bad.unwrap_err().kind(), ErrorKind::Capacity);
    assert!(!has(&store, "a").await && has(&store, "b").await && has(&store, "c").await);
}

#[tokio::test]
async fn a_call_that_is_invalid_changes_the_result_of_no_other_call() {
    let store = open(&MapEngine::default()).await;
    set(&store, "text").await.unwrap();
    let (text, count, options) = (key("text"), key("count"), IncrementOptions::default());
    let (invalid, valid) = tokio::join!(store.increment(&text, 1, &options), store.increment(&count, 1, &options));
    assert_eq!(invalid.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(valid.unwrap(), 1);
}

#[tokio::test]
async fn a_commit_that_was_not_applied_is_retryable_and_the_store_goes_on() {
    let engine = MapEngine::default();
    let store = open(&engine).await;
    engine.fail(Fault::NotApplied);
    let error = set(&store, "a").await.unwrap_err();
    assert!(error.kind() == ErrorKind::Capacity && error.is_retryable(), "{error}");
    engine.fail(Fault::None);
    assert!(!has(&store, "a").await);
    set(&store, "a").await.unwrap();
}

#[tokio::test]
async fn an_unknown_commit_is_indeterminate_with_its_version_and_reported() {
    let engine = MapEngine::default();
    let store = open(&engine).await;
    let mut inbox = store.changes().subscribe(KeyPrefix::ALL);
    engine.fail(Fault::Unknown);
    let error = set(&store, "a").await.unwrap_err();
    let found = store.get(&key("a")).await.unwrap().unwrap();
    assert_eq!(error.attempted_version(), found.version);
    assert!(
        matches!(inbox.next().now_or_never().flatten(), Some(crate::hub::Delivery::Item(changed)) if changed == key("a"))
    );
    engine.fail(Fault::None);
    set(&store, "b").await.unwrap();
}

#[tokio::test]
async fn after_a_failed_flush_no_later_write_succeeds() {
    let engine = MapEngine::default();
    let store = open(&engine).await;
    engine.fail(Fault::Sync);
    assert!(set(&store, "a").await.unwrap_err().maybe_applied());
    engine.fail(Fault::None);
    let error = set(&store, "b").await.unwrap_err();
    assert!(!error.maybe_applied(), "{error}");
    assert!(!has(&store, "b").await);
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_panic_of_the_engine_is_an_error_and_no_call_hangs() {
    let engine = MapEngine::default();
    let store = open(&engine).await;
    let mut inbox = store.changes().subscribe(KeyPrefix::ALL);
    engine.fail(Fault::Panic);
    assert!(set(&store, "a").await.unwrap_err().maybe_applied());
    engine.fail(Fault::None);
    assert_eq!(set(&store, "b").await.unwrap_err().kind(), ErrorKind::Defect);
    assert!(matches!(inbox.next().now_or_never().flatten(), Some(crate::hub::Delivery::Gap(_))));
    store.close().await.unwrap();
    assert_eq!(set(&store, "c").await.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn an_engine_that_hangs_hangs_no_caller() {
    let engine = MapEngine::default();
    let options = EngineOptions::new("map", Durability::VOLATILE).with_operation_timeout(Duration::from_millis(200));
    let opened = engine.clone();
    let store = EngineStore::open(options, || Ok(opened)).await.unwrap();
    let (writes, error, later) = {
        // The test thread holds the lock of the disk, so the writer's thread hangs.
        let disk = Arc::clone(&engine.disk);
        let (held, release) = (Arc::new(tokio::sync::Notify::new()), std::sync::mpsc::channel::<()>());
        let (is_held, released) = (Arc::clone(&held), release.1);
        let holder = std::thread::spawn(move || {
            let _disk = disk.lock().unwrap();
            is_held.notify_one();
            let _ = released.recv();
        });
        held.notified().await;
        let items: Vec<_> = (0..3_000).map(|at| SetItem::new(key(&format!("k{at}")), "value")).collect();
        let writes = store.set_many(&items).await;
        let error = set(&store, "later").await.unwrap_err();
        let closed = store.close().await.unwrap_err();
        assert_eq!(closed.kind(), ErrorKind::Unavailable);
        let later = set(&store, "closed").await.unwrap_err();
        drop(release.0);
        holder.join().unwrap();
        (writes, error, later)
    };
    assert_eq!((error.kind(), later.kind()), (ErrorKind::Unavailable, ErrorKind::Closed));
    // After the hang, the writer's thread closes the engine, because there is no handle any more.
    drop(store);
    while Arc::strong_count(&engine.disk) > 1 {
        tokio::task::yield_now().await;
    }
    let stored = engine.map().len();
    let maybe = writes.iter().filter(|write| write.as_ref().is_err_and(Error::maybe_applied)).count();
    assert!(writes.iter().all(Result::is_err) && stored > 0 && stored <= maybe, "{stored} of {maybe}");
}

#[tokio::test]
async fn dropped_callers_do_not_stop_other_callers() {
    let store = open(&MapEngine::default()).await;
    for at in 0..2_000 {
        let (name, options) = (key(&format!("k{at}")), SetOptions::default());
        let mut write = std::pin::pin!(store.set(&name, "value".into(), &options));
        let _ = futures_util::poll!(write.as_mut());
    }
    set(&store, "last").await.unwrap();
    assert!(has(&store, "last").await);
}

#[tokio::test]
async fn a_sweep_frees_due_entries_and_items_of_the_index_that_belong_to_no_entry() {
    let (engine, clock) = (MapEngine::default(), ManualClock::new());
    let options = EngineOptions::new("map", Durability::VOLATILE).with_clock(Arc::new(clock.clone()));
    let opened = engine.clone();
    let store = EngineStore::open(options, || Ok(opened)).await.unwrap();
    let expiry = SetOptions::default().with_expiry(Expiry::After(Duration::from_secs(1)));
    for name in ["a", "b"] {
        assert!(store.set(&key(name), "value".into(), &expiry).await.unwrap().is_stored());
    }
    // An overwrite moves the item of the index.
    set(&store, "b").await.unwrap();
    engine.map().insert(layout::index_key(crate::expiry::Deadline::from_millis(1), &key("none")).unwrap(), Vec::new());
    assert_eq!(engine.map().len(), 4);
    clock.advance(Duration::from_secs(1));
    store.sweep().await.unwrap();
    assert_eq!(engine.map().keys().collect::<Vec<_>>(), [b"db"]);
}

#[tokio::test]
async fn a_refused_condition_commits_nothing() {
    let engine = MapEngine::default();
    let store = open(&engine).await;
    let options = SetOptions::default().with_when(When::Present);
    assert!(!store.set(&key("a"), "value".into(), &options).await.unwrap().is_stored());
    assert_eq!(engine.commits.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_panic_while_opening_is_an_error() {
    let options = EngineOptions::new("map", Durability::VOLATILE);
    let opened = EngineStore::<MapEngine>::open(options, || panic!("the file is damaged")).await;
    assert_eq!(opened.unwrap_err().kind(), ErrorKind::Corrupt);
}
