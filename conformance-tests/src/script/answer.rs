//! What a step comes to, in words that are the same on every store.

use std::collections::HashMap;
use std::hash::Hash;

use bytes::Bytes;

use super::step::Name;

/// A version, by the order in which the script came to see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Nth(pub(super) usize);

/// When an entry ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    Never,
    /// So many milliseconds after the script began.
    At(u64),
    /// At some time that a store without a clock of the script's own decides.
    Sometime,
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) value: Bytes,
    pub(super) version: Option<Nth>,
    pub(super) until: Until,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    Entry(Option<Shown>),
    Found(bool),
    Stored { version: Option<Nth>, previous: Option<Shown> },
    Refused { current: Option<Shown> },
    Deleted { previous: Option<Shown> },
    Missing,
    Each(Vec<Self>),
    Items(Vec<(Option<Name>, Option<Shown>)>),
    Cleared(u64),
    Sum(i64),
    Committed(Vec<Option<Nth>>),
    RefusedAt(usize),
    Failed(String),
    Done,
}

/// Numbers versions as they come to be seen.
#[derive(Debug)]
pub(super) struct Sightings<V> {
    seen: HashMap<V, Nth>,
}

impl<V> Default for Sightings<V> {
    fn default() -> Self {
        Self { seen: HashMap::new() }
    }
}

impl<V: Eq + Hash> Sightings<V> {
    pub(super) fn number(&mut self, version: V) -> Nth {
        let next = Nth(self.seen.len());
        *self.seen.entry(version).or_insert(next)
    }
}
