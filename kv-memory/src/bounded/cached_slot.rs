//! A slot in the cache of the bounded engine.

use parking_lot::{RwLock, RwLockWriteGuard};

use crate::slot::Slot;

/// A slot that can be replaced in place by a slot of the same weight. The weight cannot change in place, because the
/// cache reads it only on insertion.
///
/// Do not call the cache while you hold the lock, because the eviction listener of the cache may be waiting for this
/// lock.
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
