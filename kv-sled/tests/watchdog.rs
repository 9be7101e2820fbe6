//! A store whose worker hangs: every call ends, and a write that failed as not applied is never applied.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use futures_util::StreamExt;
use kv_core::{Clock, ErrorKind, GapReason, Key, KeyPrefix, KvStore, SetOptions, SystemClock, WatchEvent, WatchQuery};
use kv_sled::SledStore;

/// A clock whose readers block while a test holds its lock. The worker reads the clock before it evaluates a batch.
#[derive(Debug, Default)]
struct HeldClock(Mutex<()>);

impl HeldClock {
    fn hold(&self) -> MutexGuard<'_, ()> {
        self.0.lock().unwrap()
    }
}

#[async_trait]
impl Clock for HeldClock {
    fn now(&self) -> SystemTime {
        drop(self.0.lock());
        SystemClock.now()
    }

    async fn sleep(&self, duration: Duration) {
        // Sleep so long that no sweep runs during the test.
        SystemClock.sleep(duration * 1_000).await;
    }
}

fn key(name: &str) -> Key {
    Key::new([name]).unwrap()
}

#[tokio::test]
#[expect(clippy::await_holding_lock, reason = "the held lock is what makes the worker hang")]
async fn every_call_of_a_store_with_a_hung_worker_ends() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(HeldClock::default());
    let builder = SledStore::builder().operation_timeout(Duration::from_millis(300));
    let store = builder.clock(Arc::clone(&clock) as Arc<dyn Clock>).open(folder.path().join("store")).await.unwrap();
    let _ = store.set(&key("before"), "1".into(), &SetOptions::default()).await.unwrap();
    let mut changes = store.watch(&WatchQuery::prefix(KeyPrefix::ALL)).await.unwrap();
    let mut messages = store.subscribe(&KeyPrefix::ALL).await.unwrap();

    let held = clock.hold();
    let (options, limit) = (SetOptions::default(), Duration::from_secs(5));
    let writes: Vec<_> = ["one", "two", "three"]
        .map(|name| {
            let store = store.clone();
            tokio::spawn(async move { store.set(&key(name), "1".into(), &SetOptions::default()).await })
        })
        .into();
    for write in writes {
        let error = tokio::time::timeout(limit, write).await.expect("the write hangs").unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    }
    let later =
        tokio::time::timeout(limit, store.set(&key("later"), "1".into(), &options)).await.expect("a later write hangs");
    assert_eq!(later.unwrap_err().kind(), ErrorKind::Unavailable);
    let read = tokio::time::timeout(limit, store.get(&key("before"))).await.expect("the read hangs").unwrap_err();
    assert_eq!(read.kind(), ErrorKind::Unavailable);
    assert!(read.message().contains("poisoned"), "{read}");
    let closed = tokio::time::timeout(limit, store.close()).await.expect("closing hangs");
    assert_eq!(closed.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(store.get(&key("before")).await.unwrap_err().kind(), ErrorKind::Closed);

    let ended = async {
        while let Some(event) = changes.next().await {
            assert_eq!(event.unwrap(), WatchEvent::Suspended { reason: GapReason::Disconnected });
        }
    };
    tokio::time::timeout(limit, ended).await.expect("the watch does not end");
    assert!(tokio::time::timeout(limit, messages.next()).await.expect("the subscription does not end").is_none());

    // The worker continues now. It must not apply the writes, because they were reported as not applied.
    drop(held);
    drop((store, changes));
    let again = SledStore::open(folder.path().join("store")).await.unwrap();
    assert!(again.contains(&key("before")).await.unwrap());
    for name in ["one", "two", "three", "later"] {
        assert!(!again.contains(&key(name)).await.unwrap(), "{name} was applied");
    }
}
