//! The answer to a step, in terms that are the same on every store.

use std::collections::HashMap;
use std::hash::Hash;

use bytes::Bytes;

use super::step::KeyIndex;

/// A version, numbered by the order in which the script first saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct VersionNumber(pub(super) usize);

/// The deadline of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deadline {
    Never,
    /// The number of milliseconds after the script began.
    At(u64),
    /// A deadline that is not compared, because the script does not set the clock.
    AtUnknownTime,
    /// The store does not show deadlines.
    NotShown,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SeenEntry {
    pub(super) value: Bytes,
    pub(super) version: Option<VersionNumber>,
    pub(super) deadline: Deadline,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    Entry(Option<SeenEntry>),
    Found(bool),
    Stored { version: Option<VersionNumber>, previous: Option<SeenEntry> },
    Refused { current: Option<SeenEntry> },
    Deleted { previous: Option<SeenEntry> },
    Missing,
    Each(Vec<Self>),
    Items(Vec<(Option<KeyIndex>, Option<SeenEntry>)>),
    Cleared(u64),
    Sum(i64),
    Committed(Vec<Option<VersionNumber>>),
    RefusedAt(usize),
    Failed(String),
    Done,
}

/// A step on which a store and the model, or two stores, answer differently.
pub(super) struct Mismatch {
    /// The index of the step.
    pub(super) at: usize,
    /// The answer of the model, or of the first store.
    pub(super) expected: String,
    /// The answer of the store.
    pub(super) found: String,
}

/// Numbers versions in the order in which they are first seen.
#[derive(Debug)]
pub(super) struct VersionNumbers<V> {
    seen: HashMap<V, VersionNumber>,
}

impl<V> Default for VersionNumbers<V> {
    fn default() -> Self {
        Self { seen: HashMap::new() }
    }
}

impl<V: Eq + Hash> VersionNumbers<V> {
    pub(super) fn number(&mut self, version: V) -> VersionNumber {
        let next = VersionNumber(self.seen.len());
        *self.seen.entry(version).or_insert(next)
    }
}
