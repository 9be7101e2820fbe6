//! The index by deadline.

use std::collections::BTreeMap;

use kv_core::{Deadline, Key};

use crate::slot::{Now, Slot};

/// Keys in the order of their deadlines. A sweep reads it, so that its cost grows with the number of due entries only
/// (clause T-6).
///
/// A position is the deadline of a slot and a part of its version. Versions never repeat, so removing the position of
/// an old slot cannot remove that of a later one with the same key and deadline. `touch` is the exception, because it
/// keeps the version: remove the position of the replaced slot before you insert the new one, as both may be equal.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    keys: BTreeMap<Position, Key>,
}

type Position = (Deadline, u64);

impl Deadlines {
    /// Inserts a slot, unless it never expires.
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

    /// Removes and returns the first key whose deadline has passed.
    pub(crate) fn pop_due(&mut self, now: &Now<'_>) -> Option<Key> {
        let first = self.keys.first_entry()?;
        let (deadline, _) = first.key();
        deadline.has_passed(now.get()).then(|| first.remove())
    }

    /// Returns the first `max` items whose deadline has passed, without removing them.
    pub(crate) fn due(&self, now: &Now<'_>, max: usize) -> Vec<Due> {
        let due = self.keys.iter().take_while(|((deadline, _), _)| deadline.has_passed(now.get()));
        due.take(max).map(|(position, key)| Due { position: *position, key: key.clone() }).collect()
    }

    pub(crate) fn remove_due(&mut self, due: &Due) {
        self.keys.remove(&due.position);
    }

    /// True if a deadline has passed.
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
    /// True if the item belongs to this slot.
    pub(crate) fn is_of(&self, slot: &Slot) -> bool {
        self.position == position(slot)
    }
}

fn position(slot: &Slot) -> Position {
    (slot.deadline, slot.version_prefix())
}
