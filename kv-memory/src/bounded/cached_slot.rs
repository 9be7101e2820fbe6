//! A slot in the cache of the bounded engine.

use parking_lot::{RwLock, RwLockWriteGuard};

use crate::slot::Slot;

/// A slot that can be replaced in place by a slot of the same weight. The weight cannot change in place, because the
/// cache reads it only on insertion.
///
/// The slot is vacant if the key has no entry: its entry was removed, or the write that creates the entry has not made
/// it visible. The lock is the section that makes a change visible: the cache has no such section, so a write first
/// inserts a cached slot with the previous content, and then changes this content.
///
/// Do not call the cache while you hold the lock, because the eviction listener of the cache may be waiting for this
/// lock.
#[derive(Debug)]
pub(crate) struct CachedSlot {
    slot: RwLock<Option<Slot>>,
    weight: u32,
}

impl CachedSlot {
    pub(crate) fn new(slot: Option<Slot>, weight: u32) -> Self {
        Self { slot: RwLock::new(slot), weight }
    }

    pub(crate) fn weight(&self) -> u32 {
        self.weight
    }

    pub(crate) fn is_vacant(&self) -> bool {
        self.slot.read().is_none()
    }

    /// Passes the slot to `read`, unless it is vacant.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&Slot) -> T) -> Option<T> {
        self.slot.read().as_ref().map(read)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, Option<Slot>> {
        self.slot.write()
    }
}
