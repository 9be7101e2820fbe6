//! The place of a slot in the cache.

use parking_lot::{RwLock, RwLockWriteGuard};

use crate::slot::Slot;

/// A slot that can be replaced where it is, as long as it counts the same, because the cache has taken its weight once.
///
/// Nobody calls the cache while holding its lock: the cache may be telling of this very cell.
#[derive(Debug)]
pub(crate) struct Cell {
    slot: RwLock<Slot>,
    weight: u32,
}

impl Cell {
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
