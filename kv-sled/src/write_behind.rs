//! The write-behind buffer: acknowledged writes that sled does not have yet.
//!
//! A round trip to the worker costs a caller more than the write itself, and a batch of one write costs sled nearly as
//! much as a batch of hundreds. So with the durability `Interval`, a caller evaluates its write itself, over the tree
//! and this buffer, and leaves the change here. The worker writes the buffer as one batch: when it is large, and at the
//! latest after half of the interval. A key that was overwritten meanwhile is written once. Reads look into the buffer
//! first.

use std::collections::BTreeMap;
use std::mem;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kv_core::Key;
use parking_lot::{RwLock, RwLockWriteGuard};
use sled::IVec;
use tokio::sync::Notify;

use crate::pending::{PendingChanges, PendingRecord};

/// Records from which on the buffer is due to be written.
const DUE_RECORDS: usize = 4_096;
/// Bytes from which on the buffer is due to be written.
const DUE_BYTES: usize = 4 << 20;

/// The buffer is full at this multiple of `DUE_RECORDS` or `DUE_BYTES`. Callers then queue for the worker.
const FULL_FACTOR: usize = 4;

/// The buffer. Its lock comes before those of the tree and the process.
#[derive(Debug)]
pub(crate) struct WriteBehind {
    layers: RwLock<Layers>,
    /// Bytes that the buffer may hold. Zero if the file system has no room, and while the store closes.
    max_bytes: AtomicU64,
    wake: Notify,
}

/// The two layers of the buffer. Writes to the upper one were evaluated over the lower one.
#[derive(Debug, Default)]
pub(crate) struct Layers {
    pub(crate) changes: PendingChanges,
    /// The lower layer: changes that the worker is writing.
    pub(crate) flushing: Option<Arc<PendingChanges>>,
}

impl Layers {
    /// The pending record of a key.
    pub(crate) fn record(&self, key: &Key) -> Option<&PendingRecord> {
        let flushing = || self.flushing.as_ref().and_then(|flushing| flushing.records.get(key));
        self.changes.records.get(key).or_else(flushing)
    }

    /// True if the upper layer is due to be written.
    pub(crate) fn is_due(&self) -> bool {
        self.is_over(1)
    }

    fn bytes(&self) -> usize {
        self.changes.bytes + self.flushing.as_ref().map_or(0, |flushing| flushing.bytes)
    }

    fn is_over(&self, factor: usize) -> bool {
        self.changes.records.len() >= DUE_RECORDS * factor || self.changes.bytes >= DUE_BYTES * factor
    }
}

impl WriteBehind {
    pub(crate) fn new() -> Self {
        Self { layers: RwLock::default(), max_bytes: AtomicU64::new(0), wake: Notify::new() }
    }

    /// Sets the bytes that the buffer may hold. A write that holds the lock already is not affected.
    pub(crate) fn set_max_bytes(&self, bytes: u64) {
        self.max_bytes.store(bytes, Ordering::SeqCst);
    }

    /// Waits until the buffer is no longer empty, or is due to be written.
    pub(crate) async fn notified(&self) {
        self.wake.notified().await;
    }

    pub(crate) fn notify(&self) {
        self.wake.notify_one();
    }

    /// True if writes are pending. Does not wait: a locked buffer counts as not empty, because the holder is about to
    /// write.
    pub(crate) fn has_pending(&self) -> bool {
        self.layers.try_read().is_none_or(|layers| !layers.changes.records.is_empty())
    }

    /// True if the buffer is due to be written. Does not wait: a locked buffer counts as due.
    pub(crate) fn is_due(&self) -> bool {
        self.layers.try_read().is_none_or(|layers| layers.is_due())
    }

    /// Locks the buffer, for the worker to apply it together with queued writes. Excludes readers and callers.
    pub(crate) fn lock(&self) -> RwLockWriteGuard<'_, Layers> {
        self.layers.write()
    }

    /// Locks the buffer for a write on the caller's thread; `None` after the timeout.
    pub(crate) fn try_lock(&self, timeout: Duration) -> Option<RwLockWriteGuard<'_, Layers>> {
        self.layers.try_write_for(timeout)
    }

    /// True if the buffer takes that many more bytes.
    pub(crate) fn has_room(&self, layers: &Layers, bytes: usize) -> bool {
        let is_within_limit = ((layers.bytes() + bytes) as u64) < self.max_bytes.load(Ordering::SeqCst);
        is_within_limit && !layers.is_over(FULL_FACTOR)
    }

    /// Moves the upper layer down and returns it to be written. It stays readable until [`WriteBehind::end_flush`].
    pub(crate) fn begin_flush(&self) -> Arc<PendingChanges> {
        let mut layers = self.layers.write();
        let flushing = Arc::new(mem::take(&mut layers.changes));
        layers.flushing = Some(Arc::clone(&flushing));
        flushing
    }

    /// Drops the lower layer, once it is in the tree.
    pub(crate) fn end_flush(&self) {
        self.layers.write().flushing = None;
    }

    /// Looks up a key; `None` if the lock was not available within the timeout.
    pub(crate) fn get(&self, key: &Key, timeout: Duration) -> Option<Lookup> {
        let layers = self.layers.try_read_for(timeout)?;
        Some(layers.record(key).map_or(Lookup::Absent, |record| Lookup::Pending(record.after.clone())))
    }

    /// The pending records of a range in key order; `None` if the lock was not available within the timeout.
    pub(crate) fn range(
        &self,
        (start, end): &(Bound<String>, Bound<String>),
        timeout: Duration,
    ) -> Option<BTreeMap<Key, Option<IVec>>> {
        let layers = self.layers.try_read_for(timeout)?;
        let range = (start.as_ref().map(String::as_str), end.as_ref().map(String::as_str));
        let both = layers.flushing.iter().map(|flushing| &**flushing).chain([&layers.changes]);
        let records =
            both.flat_map(|layer| &layer.records).filter(|(key, _)| RangeBounds::<str>::contains(&range, key.as_str()));
        Some(records.map(|(key, record)| (key.clone(), record.after.clone())).collect())
    }
}

/// The result of looking up a key in the buffer.
pub(crate) enum Lookup {
    /// The buffer has no record: the tree is up to date.
    Absent,
    /// The stored bytes that the key will have; `None` for a removed entry.
    Pending(Option<IVec>),
}
