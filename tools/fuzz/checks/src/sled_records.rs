//! Records in a sled database with valid checksums of sled.

use std::time::Duration;

use kv_core::KvStore;
use kv_sled::{SledCheck, SledStore};

use crate::damage::{Listing, assert_contained};

/// Takes records of a sled database from the input. Checks that opening the store reports these records, and that the
/// records affect no other key if the store is opened without the check.
pub fn sled_records(data: &[u8]) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let open = |check| SledStore::builder().check(check).sweep_interval(Duration::from_secs(3_600)).open(path.clone());
    runtime.block_on(async {
        open(SledCheck::Everything).await.expect("a new store").close().await.expect("the store is closed");
    });
    let mut is_changed = false;
    {
        let db = sled::open(&path).expect("a database");
        let mut rest = data;
        while let [key_bytes, value_bytes, more @ ..] = rest {
            let (key, more) = more.split_at_checked(usize::from(*key_bytes)).unwrap_or((more, &[]));
            let (value, more) = more.split_at_checked(usize::from(*value_bytes)).unwrap_or((more, &[]));
            // The record `m` has the layout version of the store. A store with another layout is refused.
            if key != b"m" {
                db.insert(key, value).expect("a record");
                is_changed = true;
            }
            rest = more;
        }
        db.flush().expect("the database is flushed");
    }
    runtime.block_on(async {
        let checked = open(SledCheck::Everything).await;
        assert_eq!(
            checked.is_err(),
            is_changed,
            "the check must fail exactly if there are foreign records: {checked:?}"
        );
        drop(checked);
        let _ = kv_sled::export(&path, |_, _| Ok(()));
        let store = open(SledCheck::Nothing).await.expect("a store opened without the check");
        assert_contained(&store, Listing::MayFail).await;
        let _ = store.close().await;
    });
}
