//! The write-behind buffer: acknowledged writes that sled does not have yet.
//!
//! Waiting for the worker costs a caller more than the write itself, and a batch of one write costs sled nearly as much
//! as a batch of hundreds. Therefore, with the durability `Interval`, the caller's thread evaluates a write against
//! this buffer and the tree, and adds the change to this buffer. The worker writes the buffer to sled as one batch:
//! when the buffer is large, and at the latest after half of the interval. A key that was overwritten in the meantime
//! is written once. Reads look up keys in the buffer first.

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

/// The number of records at which the worker must write the buffer.
const DUE_RECORDS: usize = 4_096;
/// The number of bytes at which the worker must write the buffer.
const DUE_BYTES: usize = 4 << 20;

/// The buffer is full at this multiple of [`DUE_RECORDS`] or [`DUE_BYTES`]. While it is full, writes are queued for the
/// worker.
const FULL_FACTOR: usize = 4;

/// The buffer. A thread that needs several locks takes the lock of the buffer first, then the lock of the tree, and
/// then the process-wide lock.
#[derive(Debug)]
pub(crate) struct WriteBehind {
    layers: RwLock<Layers>,
    /// The maximum number of bytes in the buffer. The maximum is zero if the file system has no free space above the
    /// reserve, and while the store closes.
    max_bytes: AtomicU64,
    wake: Notify,
}

/// The two layers of the buffer. Writes of the upper layer were evaluated after the changes of the lower layer.
#[derive(Debug, Default)]
pub(crate) struct Layers {
    /// The upper layer: changes that the worker has not begun to write.
    pub(crate) changes: PendingChanges,
    /// The lower layer: changes that the worker is writing.
    pub(crate) flushing: Option<Arc<PendingChanges>>,
}

impl Layers {
    /// The newest pending record of a key.
    pub(crate) fn record(&self, key: &Key) -> Option<&PendingRecord> {
        let flushing = || self.flushing.as_ref().and_then(|flushing| flushing.records.get(key));
        self.changes.records.get(key).or_else(flushing)
    }

    /// True if the worker must write the upper layer.
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

    /// Sets the maximum number of bytes in the buffer. A write that already holds the lock may still exceed this
    /// maximum.
    pub(crate) fn set_max_bytes(&self, bytes: u64) {
        self.max_bytes.store(bytes, Ordering::SeqCst);
    }

    /// Waits until the buffer is no longer empty, or until the worker must write the buffer.
    pub(crate) async fn notified(&self) {
        self.wake.notified().await;
    }

    pub(crate) fn notify(&self) {
        self.wake.notify_one();
    }

    /// True if writes are pending. Does not wait: a locked buffer counts as not empty, because the holder of the lock
    /// may be adding a write.
    pub(crate) fn has_pending(&self) -> bool {
        self.layers.try_read().is_none_or(|layers| !layers.changes.records.is_empty())
    }

    /// True if the worker must write the buffer. Does not wait: a locked buffer counts as due.
    pub(crate) fn is_due(&self) -> bool {
        self.layers.try_read().is_none_or(|layers| layers.is_due())
    }

    /// Locks the buffer for the worker, which applies the buffer together with queued writes. Reads and inline writes
    /// wait for this lock.
    pub(crate) fn lock(&self) -> RwLockWriteGuard<'_, Layers> {
        self.layers.write()
    }

    /// Locks the buffer for a write on the caller's thread; `None` after the timeout.
    pub(crate) fn try_lock(&self, timeout: Duration) -> Option<RwLockWriteGuard<'_, Layers>> {
        self.layers.try_write_for(timeout)
    }

    /// True if the buffer can take a write of this many bytes.
    pub(crate) fn has_capacity(&self, layers: &Layers, bytes: usize) -> bool {
        let is_within_limit = ((layers.bytes() + bytes) as u64) < self.max_bytes.load(Ordering::SeqCst);
        is_within_limit && !layers.is_over(FULL_FACTOR)
    }

    /// Makes the upper layer the lower layer and returns this layer, so that the worker can write it. The lower layer
    /// can be read until [`WriteBehind::end_flush`].
    pub(crate) fn begin_flush(&self) -> Arc<PendingChanges> {
        let mut layers = self.layers.write();
        let flushing = Arc::new(mem::take(&mut layers.changes));
        layers.flushing = Some(Arc::clone(&flushing));
        flushing
    }

    /// Drops the lower layer. The worker must have written this layer to the tree.
    pub(crate) fn end_flush(&self) {
        self.layers.write().flushing = None;
    }

    /// Looks up a key; `None` if the lock was not available within the timeout.
    pub(crate) fn get(&self, key: &Key, timeout: Duration) -> Option<Lookup> {
        let layers = self.layers.try_read_for(timeout)?;
        Some(layers.record(key).map_or(Lookup::Absent, |record| Lookup::Pending(record.after.clone())))
    }

    /// Returns the pending records in a range, in key order; `None` if the lock was not available within the timeout.
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
    /// The buffer has no record of the key, so the tree is up to date.
    Absent,
    /// The buffer has the newest stored bytes of the key; `None` if the entry was removed.
    Pending(Option<IVec>),
}
