//! The JSON forms of the outcomes of writes.

use kv_core::{CommitOutcome, DeleteOutcome, Result, SetOutcome, Version};
use serde::{Deserialize, Serialize};

use super::entry::{Entry, decode_entry, encode_entry};

/// The outcome of a set.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "lowercase")]
pub(crate) enum Set {
    Stored { version: Option<Version>, previous: Option<Entry> },
    Refused { current: Option<Entry> },
}

impl From<&SetOutcome> for Set {
    fn from(outcome: &SetOutcome) -> Self {
        match outcome {
            SetOutcome::Stored { version, previous } => {
                Self::Stored { version: *version, previous: encode_entry(previous.as_ref()) }
            }
            SetOutcome::Refused { current } => Self::Refused { current: encode_entry(current.as_ref()) },
        }
    }
}

impl Set {
    pub(crate) fn into_outcome(self) -> Result<SetOutcome> {
        Ok(match self {
            Self::Stored { version, previous } => SetOutcome::Stored { version, previous: decode_entry(previous)? },
            Self::Refused { current } => SetOutcome::Refused { current: decode_entry(current)? },
        })
    }
}

/// The outcome of a delete.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "lowercase")]
pub(crate) enum Delete {
    Deleted { previous: Option<Entry> },
    Missing,
    Refused { current: Option<Entry> },
}

impl From<&DeleteOutcome> for Delete {
    fn from(outcome: &DeleteOutcome) -> Self {
        match outcome {
            DeleteOutcome::Deleted { previous } => Self::Deleted { previous: encode_entry(previous.as_ref()) },
            DeleteOutcome::Missing => Self::Missing,
            DeleteOutcome::Refused { current } => Self::Refused { current: encode_entry(current.as_ref()) },
        }
    }
}

impl Delete {
    pub(crate) fn into_outcome(self) -> Result<DeleteOutcome> {
        Ok(match self {
            Self::Deleted { previous } => DeleteOutcome::Deleted { previous: decode_entry(previous)? },
            Self::Missing => DeleteOutcome::Missing,
            Self::Refused { current } => DeleteOutcome::Refused { current: decode_entry(current)? },
        })
    }
}

/// The outcome of a transaction.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "lowercase")]
pub(crate) enum Commit {
    Committed { versions: Vec<Option<Version>> },
    Refused { check: usize },
}

impl From<CommitOutcome> for Commit {
    fn from(outcome: CommitOutcome) -> Self {
        match outcome {
            CommitOutcome::Committed { versions } => Self::Committed { versions },
            CommitOutcome::Refused { check } => Self::Refused { check },
        }
    }
}

impl From<Commit> for CommitOutcome {
    fn from(outcome: Commit) -> Self {
        match outcome {
            Commit::Committed { versions } => Self::Committed { versions },
            Commit::Refused { check } => Self::Refused { check },
        }
    }
}
