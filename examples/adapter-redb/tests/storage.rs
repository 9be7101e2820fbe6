//! A storage that loses what was not flushed, and a storage that fails.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use adapter_redb::{RedbStore, SCHEME};
use kv_core::{ErrorKind, Key, KvStore, Registry, SetItem, SetOptions};
use redb::StorageBackend;

/// A file in memory, and the part of it that a loss of power leaves.
#[derive(Debug, Clone, Default)]
struct Disk {
    written: Arc<Mutex<Vec<u8>>>,
    flushed: Arc<Mutex<Vec<u8>>>,
    fails: Arc<AtomicBool>,
}

impl Disk {
    fn written(&self) -> io::Result<MutexGuard<'_, Vec<u8>>> {
        if self.fails.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(self.written.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The disk after a loss of power.
    fn after_power_loss(&self) -> Self {
        let flushed = self.flushed.lock().unwrap().clone();
        Self {
            written: Arc::new(Mutex::new(flushed.clone())),
            flushed: Arc::new(Mutex::new(flushed)),
            ..Self::default()
        }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.written()?.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let start = offset as usize;
        out.copy_from_slice(&self.written()?[start..start + out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.written()?.resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.flushed.lock().unwrap().clone_from(&*self.written()?);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let start = offset as usize;
        self.written()?[start..start + data.len()].copy_from_slice(data);
        Ok(())
    }
}

fn key(at: usize) -> Key {
    Key::new(["k", &at.to_string()]).unwrap()
}

#[tokio::test]
async fn every_acknowledged_write_survives_a_loss_of_power() {
    let disk = Disk::default();
    let store = RedbStore::builder().open_in(disk.clone()).await.unwrap();
    for at in 0..20 {
        let items: Vec<_> = (0..10).map(|item| SetItem::new(key(at * 10 + item), "value")).collect();
        for stored in store.set_many(&items).await {
            assert!(stored.unwrap().is_stored());
        }
        let again = RedbStore::builder().open_in(disk.after_power_loss()).await.unwrap();
        for item in 0..(at + 1) * 10 {
            assert!(again.contains(&key(item)).await.unwrap(), "{item} of batch {at}");
        }
        again.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_write_on_a_storage_that_fails_is_an_error_and_the_store_closes() {
    let disk = Disk::default();
    let store = RedbStore::builder().open_in(disk.clone()).await.unwrap();
    assert!(store.set(&key(1), "value".into(), &SetOptions::default()).await.unwrap().is_stored());
    disk.fails.store(true, Ordering::SeqCst);
    let error = store.set(&key(2), "value".into(), &SetOptions::default()).await.unwrap_err();
    assert!(error.maybe_applied() || error.kind() == ErrorKind::Capacity, "{error:?}");
    disk.fails.store(false, Ordering::SeqCst);
    assert!(store.set(&key(3), "value".into(), &SetOptions::default()).await.is_err());
    store.close().await.unwrap();
    let again = RedbStore::builder().open_in(disk.after_power_loss()).await.unwrap();
    assert!(again.contains(&key(1)).await.unwrap());
    assert!(!again.contains(&key(3)).await.unwrap());
}

#[tokio::test]
async fn a_second_store_on_the_file_is_unavailable_and_a_foreign_file_is_corrupt() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let first = RedbStore::open(&path).await.unwrap();
    assert_eq!(RedbStore::open(&path).await.unwrap_err().kind(), ErrorKind::Unavailable);
    first.close().await.unwrap();
    RedbStore::open(&path).await.unwrap().close().await.unwrap();
    std::fs::write(&path, b"a file of another program").unwrap();
    assert_eq!(RedbStore::open(&path).await.unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(std::fs::read(&path).unwrap(), b"a file of another program");
}

#[tokio::test]
async fn a_url_opens_a_store_and_a_mistyped_path_creates_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("redb:{}/store.redb", folder.path().display());
    let registry = Registry::new().with(SCHEME);
    assert_eq!(registry.open_existing(&url).await.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    let kv = registry.open(&url).await.unwrap();
    kv.set(["k"], &1).await.unwrap();
    kv.close().await.unwrap();
    assert_eq!(registry.open_existing(&url).await.unwrap().get::<i32>(["k"]).await.unwrap(), Some(1));
}
