//! A slot in the cache.

use parking_lot::{RwLock, RwLockWriteGuard};

use crate::slot::Slot;

/// A slot that can be replaced in place by one of the same weight: the cache reads the weight only on insertion.
///
/// Do not call the cache while holding the lock: its eviction listener may be waiting for the lock of this slot.
#[derive(Debug)]
pub(crate) struct CachedSlot {
    slot: RwLock<Slot>,
    weight: u32,
}

impl CachedSlot {
    pub(crate) fn new(slot: Slot, weight: u32) -> Self {
        Self { slot: RwLock::new(slot), weight }
    }

    pub(crate) fn weight(&self) -> u32 {
        self.weight
    }

    pub(crate) fn read<T>(&self, read: impl FnOnce(&Slot) -> T) -> T {
        read(&self.slot.read())
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, Slot> {
        self.slot.write()
    }
}
