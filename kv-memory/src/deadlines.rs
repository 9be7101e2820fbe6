//! The entries that have a deadline, in the order in which they expire.

use std::collections::BTreeMap;

use kv_core::{Deadline, Key};

use crate::slot::{Now, Slot};

/// Keys by deadline. Sweeping goes by it, so that its cost follows what has expired (clause T-6).
///
/// A place is a deadline and the ticket of the slot that has it; an engine gives no ticket twice. So whoever removes the
/// place of a slot that is gone cannot hit the place of a later one with the same key and deadline.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    places: BTreeMap<(Deadline, u64), Key>,
}

impl Deadlines {
    /// Adds a slot, unless it never expires.
    pub(crate) fn insert(&mut self, slot: &Slot, key: &Key) {
        if slot.has_deadline() {
            self.places.insert((slot.deadline, slot.ticket), key.clone());
        }
    }

    /// Removes a slot.
    pub(crate) fn remove(&mut self, slot: &Slot) {
        if slot.has_deadline() {
            self.places.remove(&(slot.deadline, slot.ticket));
        }
    }

    /// Takes out the first key whose deadline has passed.
    pub(crate) fn pop_due(&mut self, now: &Now<'_>) -> Option<Key> {
        let first = self.places.first_entry()?;
        let (deadline, _) = first.key();
        deadline.has_passed(now.get()).then(|| first.remove())
    }

    /// The first places whose deadline has passed; they stay.
    pub(crate) fn due(&self, now: &Now<'_>, max: usize) -> Vec<Due> {
        let places = self.places.iter().take_while(|((deadline, _), _)| deadline.has_passed(now.get()));
        places
            .take(max)
            .map(|((deadline, ticket), key)| Due { deadline: *deadline, ticket: *ticket, key: key.clone() })
            .collect()
    }

    /// Removes a place.
    pub(crate) fn remove_due(&mut self, due: &Due) {
        self.places.remove(&(due.deadline, due.ticket));
    }

    /// Whether a deadline has passed.
    pub(crate) fn is_due(&self, now: &Now<'_>) -> bool {
        self.places.first_key_value().is_some_and(|((deadline, _), _)| deadline.has_passed(now.get()))
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }
}

/// A place whose deadline has passed.
#[derive(Debug)]
pub(crate) struct Due {
    deadline: Deadline,
    ticket: u64,
    pub(crate) key: Key,
}

impl Due {
    /// Whether it is the place of this slot.
    pub(crate) fn is_of(&self, slot: &Slot) -> bool {
        self.ticket == slot.ticket && self.deadline == slot.deadline
    }
}
