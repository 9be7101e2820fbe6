//! Writes that become visible and are not acknowledged: watchers and sinks are told nevertheless (clause W-1).

use std::os::unix::fs::symlink;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use kv_core::{
    ChangeSink, GapReason, Key, KeyPrefix, KvStore, Moment, Report, SetOptions, WatchEvent, WatchQuery, WatchTarget,
};
use kv_sled::{SledDurability, SledStore};

/// A sink that records its calls.
#[derive(Debug, Default)]
struct Recorded(Mutex<Vec<String>>);

impl ChangeSink for Recorded {
    fn changed(&self, key: &Key) {
        self.0.lock().unwrap().push(format!("changed {key}"));
    }

    fn current(&self, _as_of: Moment) {
        self.0.lock().unwrap().push("current".to_owned());
    }

    fn lost(&self, reason: GapReason) {
        self.0.lock().unwrap().push(format!("lost {reason:?}"));
    }
}

#[tokio::test]
async fn a_write_whose_sync_fails_is_reported_and_then_the_loss_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let store = SledStore::builder().durability(SledDurability::Power).open(&path).await.unwrap();
    let query = WatchQuery::prefix(KeyPrefix::ALL).with_report(Report::Changes);
    let mut stream = store.watch(&query).await.unwrap();
    let sink = Arc::new(Recorded::default());
    let target = WatchTarget::from(KeyPrefix::ALL);
    let _registration = store.watch_into(&target, Arc::clone(&sink) as Arc<dyn ChangeSink>).await.unwrap();

    // The store syncs this file as the file of a large value. It cannot be opened, because the link leads to itself.
    let loop_name = u64::MAX.to_string();
    symlink(&loop_name, path.join("blobs").join(&loop_name)).unwrap();
    let key = Key::new(["k"]).unwrap();
    let error = store.set(&key, "v".into(), &SetOptions::default()).await.unwrap_err();
    assert!(error.maybe_applied(), "{error:?}");

    let mut next = async || tokio::time::timeout(Duration::from_secs(10), stream.next()).await.expect("no event");
    // The caller may get its error before the loss is announced.
    let events = [next().await.unwrap().unwrap(), next().await.unwrap().unwrap()];
    let expected = [WatchEvent::Changed { key }, WatchEvent::Suspended { reason: GapReason::Disconnected }];
    assert!(expected.iter().all(|event| events.contains(event)), "{events:?}");
    assert!(store.watch(&query).await.is_err());
    // After a failed sync, closing cannot release the files.
    assert!(store.close().await.is_err());
    assert!(next().await.is_none(), "the stream continues after the store was closed");
    assert_eq!(*sink.0.lock().unwrap(), ["current", "changed k", "lost Disconnected", "lost Closed"]);
}
