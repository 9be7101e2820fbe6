//! The entries that have a deadline, in the order in which they expire.

use std::collections::BTreeMap;

use kv_core::{Deadline, Key};

use crate::slot::{Now, Slot};

/// Keys by deadline. Sweeping goes by it, so that its cost follows what has expired (clause T-6).
///
/// A place is a deadline and the version of the slot that has it, which never repeats. So whoever removes the place of a
/// slot that is gone cannot hit the place of a later one with the same key and deadline. Only `touch` keeps a version: a
/// slot takes its place after the one that it replaces has left it, for the two may be one.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    places: BTreeMap<Place, Key>,
}

type Place = (Deadline, u64);

impl Deadlines {
    /// Adds a slot, unless it never expires.
    pub(crate) fn insert(&mut self, slot: &Slot, key: &Key) {
        if slot.has_deadline() {
            self.places.insert(place(slot), key.clone());
        }
    }

    /// Removes a slot.
    pub(crate) fn remove(&mut self, slot: &Slot) {
        if slot.has_deadline() {
            self.places.remove(&place(slot));
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
        places.take(max).map(|(place, key)| Due { place: *place, key: key.clone() }).collect()
    }

    /// Removes a place.
    pub(crate) fn remove_due(&mut self, due: &Due) {
        self.places.remove(&due.place);
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
    place: Place,
    pub(crate) key: Key,
}

impl Due {
    /// Whether it is the place of this slot.
    pub(crate) fn is_of(&self, slot: &Slot) -> bool {
        self.place == place(slot)
    }
}

fn place(slot: &Slot) -> Place {
    (slot.deadline, slot.ticket())
}
