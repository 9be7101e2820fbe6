//! The index of entries by deadline.

use std::collections::BTreeMap;

use kv_core::{Deadline, Key};

use crate::slot::{Now, Slot};

/// The keys of all entries with a deadline, in the order of the deadlines. A sweep reads only the due entries from this
/// index, so the cost of a sweep depends only on the number of due entries (clause T-6).
///
/// The position of a slot is its deadline and a part of its version. Versions never repeat, so removing the position of
/// an old slot does not remove the position of a later slot with the same deadline. `touch` is an exception, because it
/// keeps the version, and the positions of the old and the new slot may be equal. Therefore remove the position of the
/// old slot before you insert the position of the new slot.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    keys: BTreeMap<Position, Key>,
}

/// The deadline of a slot, and the first 8 bytes of its version.
type Position = (Deadline, u64);

impl Deadlines {
    /// Inserts the position of a slot. Does nothing if the slot never expires.
    #[inline]
    pub(crate) fn insert(&mut self, slot: &Slot, key: &Key) {
        if slot.has_deadline() {
            self.keys.insert(position(slot), key.clone());
        }
    }

    #[inline]
    pub(crate) fn remove(&mut self, slot: &Slot) {
        if slot.has_deadline() {
            self.keys.remove(&position(slot));
        }
    }

    /// Removes the earliest deadline and returns its key, if the deadline has passed.
    pub(crate) fn pop_due(&mut self, now: &Now<'_>) -> Option<Key> {
        let first = self.keys.first_entry()?;
        let (deadline, _) = first.key();
        deadline.has_passed(now.get()).then(|| first.remove())
    }

    /// Returns up to `max` items whose deadlines have passed, the earliest first. Does not remove them.
    pub(crate) fn due(&self, now: &Now<'_>, max: usize) -> Vec<Due> {
        let due = self.keys.iter().take_while(|((deadline, _), _)| deadline.has_passed(now.get()));
        due.take(max).map(|(position, key)| Due { position: *position, key: key.clone() }).collect()
    }

    pub(crate) fn remove_due(&mut self, due: &Due) {
        self.keys.remove(&due.position);
    }

    /// True if at least one deadline has passed.
    pub(crate) fn is_due(&self, now: &Now<'_>) -> bool {
        self.keys.first_key_value().is_some_and(|((deadline, _), _)| deadline.has_passed(now.get()))
    }

    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }
}

/// An item of the index whose deadline has passed.
#[derive(Debug)]
pub(crate) struct Due {
    position: Position,
    pub(crate) key: Key,
}

impl Due {
    /// True if this is the item of the slot, and the slot was not replaced since the item was inserted.
    pub(crate) fn is_of(&self, slot: &Slot) -> bool {
        self.position == position(slot)
    }
}

fn position(slot: &Slot) -> Position {
    (slot.deadline, slot.version_prefix())
}
