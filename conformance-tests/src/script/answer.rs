//! The answer to a step, in terms that are the same on every store.

use std::fmt::Debug;

use bytes::Bytes;
use kv_core::GapReason;

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

/// An entry whose version has the type `V`: the version of the store, the version of the model, or its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SeenEntry<V = VersionNumber> {
    pub(super) value: Bytes,
    pub(super) version: Option<V>,
    pub(super) deadline: Deadline,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer<V = VersionNumber> {
    Entry(Option<SeenEntry<V>>),
    Found(bool),
    Stored { version: Option<V>, previous: Option<SeenEntry<V>> },
    Refused { current: Option<SeenEntry<V>> },
    Deleted { previous: Option<SeenEntry<V>> },
    Missing,
    Each(Vec<Self>),
    Items(Vec<(Option<KeyIndex>, Option<SeenEntry<V>>)>),
    Cleared(u64),
    Sum(i64),
    Committed(Vec<Option<V>>),
    RefusedAt(usize),
    Taken(Option<Bytes>),
    Messages(Vec<(Option<KeyIndex>, Bytes)>),
    Failed(String),
    Done,
}

impl<V> SeenEntry<V> {
    pub(super) fn map<W>(self, number: &mut impl FnMut(V) -> W) -> SeenEntry<W> {
        SeenEntry { value: self.value, version: self.version.map(number), deadline: self.deadline }
    }
}

impl<V> Answer<V> {
    /// Returns the answer with each version replaced by the result of `number`, which is called in the order in which
    /// the versions appear.
    pub(super) fn map<W>(self, number: &mut impl FnMut(V) -> W) -> Answer<W> {
        let mut entry = |entry: Option<SeenEntry<V>>| entry.map(|entry| entry.map(number));
        match self {
            Self::Entry(found) => Answer::Entry(entry(found)),
            Self::Refused { current } => Answer::Refused { current: entry(current) },
            Self::Deleted { previous } => Answer::Deleted { previous: entry(previous) },
            Self::Items(items) => Answer::Items(items.into_iter().map(|(key, item)| (key, entry(item))).collect()),
            Self::Stored { version, previous } => Answer::Stored {
                version: version.map(&mut *number),
                previous: previous.map(|previous| previous.map(number)),
            },
            Self::Committed(versions) => {
                Answer::Committed(versions.into_iter().map(|version| version.map(&mut *number)).collect())
            }
            Self::Each(answers) => {
                let number: &mut dyn FnMut(V) -> W = number;
                Answer::Each(answers.into_iter().map(|answer| answer.map(&mut &mut *number)).collect())
            }
            Self::Found(found) => Answer::Found(found),
            Self::Missing => Answer::Missing,
            Self::Cleared(count) => Answer::Cleared(count),
            Self::Sum(sum) => Answer::Sum(sum),
            Self::RefusedAt(check) => Answer::RefusedAt(check),
            Self::Taken(value) => Answer::Taken(value),
            Self::Messages(messages) => Answer::Messages(messages),
            Self::Failed(text) => Answer::Failed(text),
            Self::Done => Answer::Done,
        }
    }
}

/// An event of a watch. `None` stands for a key that the script does not use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    Set(Option<KeyIndex>, Option<SeenEntry>),
    Removed(Option<KeyIndex>),
    SnapshotEnd,
    Gap(GapReason),
    /// An event of a kind that the suite does not know, an error, or the end of the stream.
    Other(String),
}

/// A step on which a store and the model, or two stores, answer differently.
#[derive(Debug, Clone)]
pub(super) struct Mismatch {
    /// The index of the step.
    pub(super) at: usize,
    /// The answer of the model, or of the first store.
    pub(super) expected: String,
    /// The answer of the store.
    pub(super) found: String,
}
