//! A stored entry, and the time at which an operation sees it.

use std::cell::Cell;
use std::time::SystemTime;

use bytes::Bytes;
use kv_core::{Clock, Deadline, Entry, Version};

/// A stored entry. It may have expired.
#[derive(Debug, Clone)]
pub(crate) struct Slot {
    pub(crate) value: Bytes,
    pub(crate) version: Version,
    pub(crate) deadline: Deadline,
}

impl Slot {
    pub(crate) fn new(value: Bytes, version: Version, deadline: Deadline) -> Self {
        Self { value, version, deadline }
    }

    #[inline]
    pub(crate) fn has_deadline(&self) -> bool {
        self.deadline != Deadline::NEVER
    }

    /// True if the entry has not expired (clause T-1). Reads the clock only for an entry with a deadline.
    #[inline]
    pub(crate) fn is_live(&self, now: &Now<'_>) -> bool {
        !self.has_deadline() || !self.deadline.has_passed(now.get())
    }

    /// The first 8 bytes of the version. They are random, so they distinguish slots with equal deadlines.
    pub(crate) fn version_prefix(&self) -> u64 {
        self.version.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }

    /// Converts the slot into an entry for a caller. The entry shares the bytes of the value.
    #[inline]
    pub(crate) fn entry(&self) -> Entry {
        Entry::new(self.value.clone()).with_version(self.version).with_expires(self.deadline)
    }
}

/// The time of one operation. The first call of [`Now::get`] reads the clock, and later calls return the same time.
///
/// A read or write calls [`Now::get`] only while it holds the lock of the slot or key, so that the time is never from
/// before the lock was taken.
#[derive(Debug)]
pub(crate) struct Now<'a> {
    clock: &'a dyn Clock,
    read: Cell<Option<SystemTime>>,
}

impl<'a> Now<'a> {
    pub(crate) fn new(clock: &'a dyn Clock) -> Self {
        Self { clock, read: Cell::new(None) }
    }

    pub(crate) fn get(&self) -> SystemTime {
        self.read.get().unwrap_or_else(|| {
            let now = self.clock.now();
            self.read.set(Some(now));
            now
        })
    }
}
