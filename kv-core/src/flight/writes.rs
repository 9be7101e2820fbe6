//! The running writes by key, on a store without conditions.

use std::collections::HashMap;
use std::fmt;

use super::flights::Flights;
use crate::key::{Key, KeyPrefix};

/// The keys of a write.
#[derive(Debug)]
pub(super) enum Target {
    Keys(Vec<Key>),
    Prefix(KeyPrefix),
}

/// The running writes. A load that begins while its key is written must not store its value.
#[derive(Debug, Default)]
pub(super) struct Writes {
    /// The number of running writes of each key.
    keys: HashMap<Key, usize>,
    prefixes: Vec<KeyPrefix>,
}

impl Writes {
    pub(super) fn begin(&mut self, target: &Target) {
        match target {
            Target::Keys(keys) => keys.iter().for_each(|key| *self.keys.entry(key.clone()).or_default() += 1),
            Target::Prefix(prefix) => self.prefixes.push(prefix.clone()),
        }
    }

    pub(super) fn end(&mut self, target: &Target) {
        match target {
            Target::Keys(keys) => keys.iter().for_each(|key| self.end_one(key)),
            Target::Prefix(prefix) => {
                if let Some(position) = self.prefixes.iter().position(|running| running == prefix) {
                    self.prefixes.swap_remove(position);
                }
            }
        }
    }

    fn end_one(&mut self, key: &Key) {
        match self.keys.get_mut(key) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(self.keys.remove(key)),
        }
    }

    /// True if the key is being written.
    pub(super) fn covers(&self, key: &Key) -> bool {
        self.keys.contains_key(key) || self.prefixes.iter().any(|prefix| prefix.covers(key))
    }
}

/// A running write. While this value exists, no load of the written keys begins to store a value. Dropping this value
/// ends the write.
#[must_use = "dropping the guard ends the write"]
pub struct Writing<V> {
    flights: Flights<V>,
    target: Target,
}

impl<V> Writing<V> {
    pub(super) fn new(flights: Flights<V>, target: Target) -> Self {
        Self { flights, target }
    }
}

impl<V> Drop for Writing<V> {
    fn drop(&mut self) {
        self.flights.end_write(&self.target);
    }
}

/// Omits the keys, because they may be secrets.
impl<V> fmt::Debug for Writing<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writing").finish_non_exhaustive()
    }
}
