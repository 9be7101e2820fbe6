//! Records in a sled database whose own checksums hold.

use std::time::Duration;

use kv_core::KvStore;
use kv_sled::{SledCheck, SledStore};

use crate::harmless::{Listing, is_harmless};

/// Any records that a sled database can hold, cut from the bytes, are told when the store is opened, or are damage of their own
/// keys where it is opened without the check.
pub fn sled_records(data: &[u8]) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let open = |check| SledStore::builder().check(check).sweep_interval(Duration::from_secs(3_600)).open(path.clone());
    runtime.block_on(async {
        open(SledCheck::Everything).await.expect("a new store").close().await.expect("a store is closed");
    });
    let mut is_changed = false;
    {
        let db = sled::open(&path).expect("a database");
        let mut rest = data;
        while let [key_bytes, value_bytes, more @ ..] = rest {
            let (key, more) = more.split_at_checked(usize::from(*key_bytes)).unwrap_or((more, &[]));
            let (value, more) = more.split_at_checked(usize::from(*value_bytes)).unwrap_or((more, &[]));
            // The ledger says which layout the store has; another one is another store.
            if key != b"m" {
                db.insert(key, value).expect("a record");
                is_changed = true;
            }
            rest = more;
        }
        db.flush().expect("a database is written");
    }
    runtime.block_on(async {
        let checked = open(SledCheck::Everything).await;
        assert_eq!(checked.is_err(), is_changed, "what nobody stored is told: {checked:?}");
        drop(checked);
        let _ = kv_sled::export(&path, |_, _| Ok(()));
        let store = open(SledCheck::Nothing).await.expect("a store that is not checked");
        is_harmless(&store, Listing::MayTell).await;
        let _ = store.close().await;
    });
}
