//! What both engines keep under a key, and the time at which it is judged.

use std::cell::Cell;
use std::time::SystemTime;

use bytes::Bytes;
use kv_core::{Clock, Deadline, Entry, Version};

/// A stored entry, live or expired and not swept yet.
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

    /// Whether the entry is there at this moment (clause T-1). Only an entry with a deadline asks the clock.
    #[inline]
    pub(crate) fn is_live(&self, now: &Now<'_>) -> bool {
        !self.has_deadline() || !self.deadline.has_passed(now.get())
    }

    /// What tells the slot from others of the same deadline: the beginning of its version, which is random.
    pub(crate) fn ticket(&self) -> u64 {
        self.version.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }

    /// The entry as callers see it. Shares the value.
    #[inline]
    pub(crate) fn entry(&self) -> Entry {
        Entry::new(self.value.clone()).with_version(self.version).with_expires(self.deadline)
    }
}

/// The moment of one operation: read from the clock when it is first needed, and the same from then on.
///
/// An operation that holds a lock makes it under the lock, so that it never judges by a moment before its turn.
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
