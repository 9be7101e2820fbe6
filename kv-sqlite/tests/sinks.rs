//! Sinks of changes of a file know how old their knowledge is. The suite tests the sinks of a store in memory.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use kv_core::{
    ChangeSink, Clock, GapReason, Key, KeyPrefix, KvStore, Moment, SetOptions, SystemClock, WatchEvent, WatchQuery,
    WatchTarget,
};
use kv_sqlite::SqliteStore;
use kv_sqlite::rusqlite::Connection;
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(10);

fn key(segment: &str) -> Key {
    Key::new([segment]).unwrap()
}

fn all() -> WatchTarget {
    KeyPrefix::ALL.into()
}

async fn put(store: &SqliteStore, segment: &str, value: &str) {
    assert!(store.set(&key(segment), value.to_owned().into(), &SetOptions::default()).await.unwrap().is_stored());
}

/// A sink that records its calls, without repeated calls of `current`.
#[derive(Debug, Default)]
struct Recorded(Mutex<Vec<Call>>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Call {
    Changed(Key),
    Current(Moment),
    /// The reason, and the age of the last `as_of`.
    Lost(GapReason, Duration),
}

impl Recorded {
    async fn wait(&self, expected: &str, is_expected: impl Fn(&Call) -> bool + Send + Sync) -> Call {
        let waiting = async {
            loop {
                if let Some(call) = self.0.lock().unwrap().iter().find(|call| is_expected(call)).cloned() {
                    return call;
                }
                SystemClock.sleep(Duration::from_millis(2)).await;
            }
        };
        let found = timeout(LIMIT, waiting).await;
        found.unwrap_or_else(|_| panic!("expected {expected}, got {:?}", self.0.lock().unwrap()))
    }

    async fn expect_changed(&self, segment: &str) {
        self.wait(segment, |call| *call == Call::Changed(key(segment))).await;
    }

    /// Waits for a call of `current` with a moment after now.
    async fn expect_current(&self) {
        let now = Moment::now();
        self.wait("a call of `current`", |call| matches!(call, Call::Current(as_of) if *as_of >= now)).await;
    }

    /// Waits for a call of `lost`, and returns the age of the last `as_of` at the call.
    async fn expect_lost(&self, reason: GapReason) -> Duration {
        match self.wait("a call of `lost`", |call| matches!(call, Call::Lost(found, _) if *found == reason)).await {
            Call::Lost(_, age) => age,
            call => panic!("{call:?}"),
        }
    }
}

impl ChangeSink for Recorded {
    fn changed(&self, key: &Key) {
        self.0.lock().unwrap().push(Call::Changed(key.clone()));
    }

    fn current(&self, as_of: Moment) {
        let mut calls = self.0.lock().unwrap();
        if matches!(calls.last(), Some(Call::Current(_))) {
            calls.pop();
        }
        calls.push(Call::Current(as_of));
    }

    fn lost(&self, reason: GapReason) {
        let mut calls = self.0.lock().unwrap();
        let last =
            calls.iter().rev().find_map(|call| if let Call::Current(as_of) = call { Some(*as_of) } else { None });
        calls.push(Call::Lost(reason, last.map_or(Duration::ZERO, Moment::elapsed)));
    }
}

/// Two handles on one file, a sink of the first handle, and a connection that stands for another program.
struct Shared {
    store: SqliteStore,
    other: SqliteStore,
    sink: Arc<Recorded>,
    connection: Connection,
    _registration: kv_core::Registration,
    _folder: tempfile::TempDir,
}

impl Shared {
    async fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.sqlite");
        let (store, other) = (SqliteStore::open(&path).await.unwrap(), SqliteStore::open(&path).await.unwrap());
        let sink = Arc::new(Recorded::default());
        let registration = store.watch_into(&all(), Arc::clone(&sink) as Arc<dyn ChangeSink>).await.unwrap();
        let connection = Connection::open(&path).unwrap();
        Self { store, other, sink, connection, _registration: registration, _folder: folder }
    }

    fn execute(&self, statement: &str) {
        self.connection.execute_batch(statement).unwrap();
    }
}

#[tokio::test]
async fn a_sink_of_a_file_gets_the_changes_of_every_handle_before_it_is_current() {
    let Shared { store, other, sink, .. } = &Shared::open().await;
    assert!(!store.info().watch_loss_bound.is_zero());
    for round in 0..20 {
        let (own, foreign) = (format!("own {round}"), format!("foreign {round}"));
        put(store, &own, "1").await;
        put(other, &foreign, "1").await;
        sink.expect_current().await;
        let calls = sink.0.lock().unwrap().clone();
        for segment in [own, foreign] {
            assert!(calls.contains(&Call::Changed(key(&segment))), "{segment} is missing in {calls:?}");
        }
    }
    assert!(!sink.0.lock().unwrap().iter().any(|call| matches!(call, Call::Lost(..))));
}

#[tokio::test]
async fn a_deleted_lease_is_a_loss_until_the_handle_has_a_new_lease() {
    let shared = Shared::open().await;
    shared.sink.expect_current().await;
    // A writer deletes an expired lease, and does not log its change.
    shared.execute(r#"UPDATE "kv watchers" SET expires = 1"#);
    put(&shared.other, "missed", "1").await;
    shared.sink.expect_lost(GapReason::NotReported).await;
    shared.sink.expect_current().await;
    put(&shared.other, "seen", "1").await;
    shared.sink.expect_changed("seen").await;
}

#[tokio::test]
async fn a_sink_learns_within_the_bound_that_the_file_cannot_be_read() {
    let shared = Shared::open().await;
    let bound = shared.store.info().watch_loss_bound;
    shared.sink.expect_current().await;
    shared.execute(r#"ALTER TABLE "kv watchers" RENAME TO hidden"#);
    let age = shared.sink.expect_lost(GapReason::Unanswered).await;
    // The tolerance is for a busy machine.
    assert!(age <= bound + Duration::from_secs(2), "`lost` was called {age:?} after the last `as_of`");
    shared.execute(r#"ALTER TABLE hidden RENAME TO "kv watchers""#);
    shared.sink.expect_current().await;
    put(&shared.other, "seen", "1").await;
    shared.sink.expect_changed("seen").await;
}

#[tokio::test]
async fn a_watcher_gets_a_gap_if_another_watch_replaces_the_deleted_lease() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.sqlite");
    let (store, other) = (SqliteStore::open(&path).await.unwrap(), SqliteStore::open(&path).await.unwrap());
    let mut first = store.watch(&WatchQuery::prefix(KeyPrefix::ALL)).await.unwrap();
    Connection::open(&path).unwrap().execute(r#"UPDATE "kv watchers" SET expires = 1"#, []).unwrap();
    put(&other, "missed", "1").await;
    let _second = store.watch(&WatchQuery::prefix(KeyPrefix::ALL)).await.unwrap();
    loop {
        match timeout(LIMIT, first.next()).await.expect("no event").unwrap().unwrap() {
            WatchEvent::Suspended { .. } => {}
            WatchEvent::Gap { .. } => break,
            event => panic!("{event:?} came before the gap"),
        }
    }
}
