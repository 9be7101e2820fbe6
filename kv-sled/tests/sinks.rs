//! Sinks are called inside the section that makes a change visible: no read returns while a sink is called.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use kv_core::{
    BoxFuture, ChangeSink, DeleteOptions, Expiry, GapReason, IncrementOptions, Key, KeyPrefix, KvStore, Moment,
    NewExpiry, SetItem, SetOptions, Transaction, WatchTarget,
};
use kv_sled::{SledDurability, SledStore};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(10);

/// More bytes than an inline write may have, so that the worker makes the write whatever the durability is.
const LARGE: usize = 70_000;

fn key() -> Key {
    Key::new(["k"]).unwrap()
}

/// A sink that waits at a gate in each call of `changed`.
#[derive(Debug)]
struct Gated {
    entered: UnboundedSender<Key>,
    gate: Mutex<Receiver<()>>,
}

impl ChangeSink for Gated {
    fn changed(&self, key: &Key) {
        self.entered.send(key.clone()).unwrap();
        let _ = self.gate.lock().unwrap().recv_timeout(LIMIT);
    }

    fn current(&self, _as_of: Moment) {}

    fn lost(&self, reason: GapReason) {
        assert_eq!(reason, GapReason::Closed);
    }
}

type Write = fn(SledStore) -> BoxFuture<'static, ()>;

async fn put(store: &SledStore, value: impl Into<Bytes>) {
    assert!(store.set(&key(), value.into(), &SetOptions::default()).await.unwrap().is_stored());
}

/// Every write path, with the number of bytes of the value that the key then has.
fn writes() -> Vec<(&'static str, Write, Option<usize>)> {
    vec![
        ("a set", |store| Box::pin(async move { put(&store, "22").await }), Some(2)),
        ("a set of a large value", |store| Box::pin(async move { put(&store, vec![b'2'; LARGE]).await }), Some(LARGE)),
        (
            "a set_many",
            |store| Box::pin(async move { assert!(store.set_many(&[SetItem::new(key(), "22")]).await[0].is_ok()) }),
            Some(2),
        ),
        (
            "an increment",
            |store| {
                Box::pin(async move {
                    assert_eq!(store.increment(&key(), 9, &IncrementOptions::default()).await.unwrap(), 10);
                })
            },
            Some(2),
        ),
        (
            "a transaction",
            |store| {
                Box::pin(async move {
                    let transaction = Transaction::new().set(key(), "22", Expiry::Never);
                    assert!(store.commit(&transaction).await.unwrap().is_committed());
                })
            },
            Some(2),
        ),
        (
            "a touch that ends the entry",
            |store| {
                Box::pin(async move { assert!(store.touch(&key(), NewExpiry::After(Duration::ZERO)).await.unwrap()) })
            },
            None,
        ),
        (
            "a delete",
            |store| {
                Box::pin(async move {
                    assert!(store.delete(&key(), &DeleteOptions::default()).await.unwrap().is_deleted());
                })
            },
            None,
        ),
        ("a delete_many", |store| Box::pin(async move { assert!(store.delete_many(&[key()]).await[0].is_ok()) }), None),
        ("a clear", |store| Box::pin(async move { assert_eq!(store.clear(&KeyPrefix::ALL).await.unwrap(), 1) }), None),
    ]
}

/// Runs a write whose sink waits at a gate. Asserts that no read of the key returns before the gate opens, and that the
/// read then returns the written value.
async fn expect_in_section(store: &SledStore, name: &str, write: Write, expected: Option<usize>) {
    put(store, "1").await;
    let (entered, mut has_entered) = unbounded_channel();
    let (open, gate) = channel();
    let sink = Arc::new(Gated { entered, gate: Mutex::new(gate) });
    let registration = store.watch_into(&WatchTarget::from(KeyPrefix::ALL), sink).await.unwrap();
    let writer = tokio::spawn(write(store.clone()));
    assert_eq!(timeout(LIMIT, has_entered.recv()).await, Ok(Some(key())), "{name}: the sink is not called");
    let mut reader = tokio::spawn({
        let store = store.clone();
        async move { store.get(&key()).await.unwrap() }
    });
    let early = timeout(Duration::from_millis(50), &mut reader).await;
    assert!(early.is_err(), "{name}: a read returned while the sink was called: {early:?}");
    drop(open);
    let found = timeout(LIMIT, reader).await.expect(name).unwrap();
    assert_eq!(found.map(|entry| entry.value.len()), expected, "{name}");
    writer.await.unwrap();
    drop(registration);
}

async fn expect_all_in_section(durability: SledDurability) {
    let folder = tempfile::tempdir().unwrap();
    let store = SledStore::builder().durability(durability).open(folder.path().join("store")).await.unwrap();
    assert_eq!(store.info().watch_loss_bound, Duration::ZERO);
    for (name, write, expected) in writes() {
        expect_in_section(&store, name, write, expected).await;
    }
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_read_returns_while_a_sink_is_called_for_a_write_of_the_worker() {
    expect_all_in_section(SledDurability::Process).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_read_returns_while_a_sink_is_called_for_a_pending_write() {
    expect_all_in_section(SledDurability::Interval(Duration::from_secs(3_600))).await;
}
