//! Another file takes the place of a database that is open.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use kv_core::{
    ChangeSink, Clock, ErrorKind, GapReason, Key, KeyPrefix, KvStore, Moment, SetOptions, SystemClock, WatchEvent,
    WatchQuery, WatchStream,
};
use kv_sqlite::SqliteStore;
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(10);

fn key() -> Key {
    Key::new(["k"]).unwrap()
}

async fn set(store: &SqliteStore, value: &'static str) -> kv_core::Result<()> {
    store.set(&key(), value.into(), &SetOptions::default()).await.map(|_| ())
}

/// A store that is open, the path of its file, and the path of a second link to this file.
struct Files {
    store: SqliteStore,
    path: PathBuf,
    saved: PathBuf,
    _folder: tempfile::TempDir,
}

impl Files {
    async fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (path, saved) = (folder.path().join("store.sqlite"), folder.path().join("saved"));
        let store = SqliteStore::builder().path(&path).sweep_interval(Duration::from_secs(3_600)).open().await.unwrap();
        set(&store, "old").await.unwrap();
        std::fs::hard_link(&path, &saved).unwrap();
        Self { store, path, saved, _folder: folder }
    }

    /// Renames another database over the file.
    async fn replace(&self) {
        let other = self.path.with_file_name("other");
        let store = SqliteStore::open(&other).await.unwrap();
        set(&store, "new").await.unwrap();
        store.close().await.unwrap();
        rename(&other, &self.path);
    }
}

fn rename(from: &Path, to: &Path) {
    std::fs::rename(from, to).unwrap();
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Current(Moment),
    Lost(GapReason, Moment),
}

/// A sink that records its calls.
#[derive(Debug, Default)]
struct Recorded(Mutex<Vec<Call>>);

impl ChangeSink for Recorded {
    fn changed(&self, _key: &Key) {}

    fn current(&self, as_of: Moment) {
        self.0.lock().unwrap().push(Call::Current(as_of));
    }

    fn lost(&self, reason: GapReason) {
        self.0.lock().unwrap().push(Call::Lost(reason, Moment::now()));
    }
}

impl Recorded {
    /// Waits for a call after `from` calls, and returns it.
    async fn wait(&self, from: usize, is_expected: impl Fn(&Call) -> bool + Send + Sync) -> Call {
        let waiting = async {
            loop {
                if let Some(call) = self.0.lock().unwrap().iter().skip(from).copied().find(&is_expected) {
                    return call;
                }
                SystemClock.sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(LIMIT, waiting).await.expect("the sink was not called as expected")
    }

    fn calls(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

fn is_current(call: &Call) -> bool {
    matches!(call, Call::Current(_))
}

async fn next(events: &mut WatchStream) -> WatchEvent {
    timeout(LIMIT, events.next()).await.expect("no event").unwrap().unwrap()
}

#[tokio::test]
async fn a_replaced_file_is_a_loss_until_it_is_in_place_again() {
    let files = Files::open().await;
    let sink = Arc::new(Recorded::default());
    let target = KeyPrefix::ALL.into();
    let _registration = files.store.watch_into(&target, Arc::clone(&sink) as Arc<dyn ChangeSink>).await.unwrap();
    let mut events = files.store.watch(&WatchQuery::prefix(KeyPrefix::ALL)).await.unwrap();
    sink.wait(0, is_current).await;

    files.replace().await;
    let replaced = Moment::now();
    let lost = sink.wait(0, |call| matches!(call, Call::Lost(GapReason::ServerChanged, _))).await;
    let Call::Lost(_, at) = lost else { panic!("{lost:?}") };
    // The tolerance is for a busy machine.
    let bound = files.store.info().watch_loss_bound + Duration::from_secs(2);
    assert!(replaced.elapsed().saturating_sub(at.elapsed()) <= bound, "the loss was announced too late");
    let calls = sink.calls();
    SystemClock.sleep(Duration::from_millis(500)).await;
    for call in sink.0.lock().unwrap().iter() {
        assert!(!matches!(call, Call::Current(as_of) if *as_of > replaced), "`current` was called for the old file");
    }
    assert_eq!(sink.calls(), calls, "the sink was called after `lost`");
    assert!(matches!(next(&mut events).await, WatchEvent::Suspended { reason: GapReason::ServerChanged, .. }));
    assert_eq!(set(&files.store, "lost").await.unwrap_err().kind(), ErrorKind::Unavailable);

    rename(&files.saved, &files.path);
    sink.wait(calls, is_current).await;
    assert!(matches!(next(&mut events).await, WatchEvent::Gap { reason: GapReason::ServerChanged, .. }));
    set(&files.store, "seen").await.unwrap();
    assert!(matches!(next(&mut events).await, WatchEvent::Set { .. }));
}

#[tokio::test]
async fn no_read_opens_the_file_that_has_replaced_the_file_of_the_store() {
    let files = Files::open().await;
    let read = || async { files.store.get(&key()).await.map(|entry| entry.map(|entry| entry.value)) };
    files.replace().await;
    assert_eq!(read().await.unwrap_err().kind(), ErrorKind::Unavailable);
    rename(&files.saved, &files.path);
    // This read opens a connection, which stays open and reads the file wherever it is.
    assert_eq!(read().await.unwrap().unwrap(), "old");
    files.replace().await;
    assert_eq!(read().await.unwrap().unwrap(), "old");
}
