//! The calls of the tasks and their answers, in the form of the log.

use anykv::{Error, Version};
use serde::{Deserialize, Serialize};

/// A stored value. The log has the origin of a value instead of its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Value {
    /// Bytes that are computed from the writer, the number of the write, and the size in bytes.
    Written { writer: usize, number: u64, size: usize },
    /// The decimal text of a counter.
    Number(i64),
    /// Bytes that no task wrote.
    Foreign(String),
}

/// The expiry of a write or a touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Life {
    Unlimited,
    Keep,
    Millis(u64),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Condition {
    Always,
    Absent,
    Present,
    Value(Value),
    Version(Version),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Write {
    pub(crate) key: String,
    pub(crate) value: Value,
    pub(crate) life: Life,
}

/// One mutation of a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Change {
    Set(Write),
    Delete(String),
}

/// A call on the keys that only the calling task writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Call {
    Get(String),
    GetMany(Vec<String>),
    List { reverse: bool },
    Set { write: Write, when: Condition },
    SetMany(Vec<Write>),
    Delete { key: String, when: Condition },
    DeleteMany(Vec<String>),
    Take(String),
    Touch { key: String, life: Life },
    Increment { key: String, by: i64, life: Life },
    Commit { checks: Vec<(String, Condition)>, changes: Vec<Change> },
}

/// A call on the keys that all tasks write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum SharedCall {
    /// Adds to a counter.
    Add { key: String, by: i64 },
    /// Replaces a number by the next number, if the entry still has the version that was read. Without a version, the
    /// key must be absent.
    Swap { key: String, version: Option<Version>, to: i64 },
    /// Writes all keys of the shared transactions. All values have the same writer and number.
    WriteAll { writer: usize, number: u64, size: usize },
    /// Removes all keys of the shared transactions.
    RemoveAll,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Operation {
    Own(Call),
    Shared(SharedCall),
}

/// An entry as a read returned it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seen {
    pub(crate) value: Value,
    pub(crate) version: Option<Version>,
    /// The deadline in milliseconds since the Unix epoch, or `None` for never.
    pub(crate) deadline: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Answer {
    Found(Option<Seen>),
    FoundMany(Vec<Option<Seen>>),
    Listed(Vec<(String, Seen)>),
    Stored(Option<Version>),
    Refused(Option<Seen>),
    /// True if a live entry was removed.
    Deleted(bool),
    /// True if there was a live entry.
    Touched(bool),
    Sum(i64),
    Committed(Vec<Option<Version>>),
    RefusedCheck(usize),
    /// One answer for each item of a call with several keys.
    Many(Vec<Self>),
    Failed(Failure),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failure {
    /// True if the write may have happened.
    pub(crate) maybe_applied: bool,
    /// True for the kind `Unavailable`, which a store returns while its server is down.
    pub(crate) unavailable: bool,
    /// The version that the write gives to the entry, if the write happened.
    pub(crate) version: Option<Version>,
    pub(crate) text: String,
}

impl From<Error> for Answer {
    fn from(error: Error) -> Self {
        Self::Failed(Failure {
            maybe_applied: error.maybe_applied(),
            unavailable: error.kind() == anykv::ErrorKind::Unavailable,
            version: error.attempted_version(),
            text: error.to_string(),
        })
    }
}

impl Answer {
    /// The failures in this answer and in the answers of its items.
    pub(crate) fn failures(&self) -> impl Iterator<Item = &Failure> {
        let items: &[Self] = match self {
            Self::Many(items) => items,
            other => std::slice::from_ref(other),
        };
        items.iter().filter_map(|item| if let Self::Failed(failure) = item { Some(failure) } else { None })
    }
}

impl Change {
    pub(crate) fn key(&self) -> &str {
        match self {
            Self::Set(write) => &write.key,
            Self::Delete(key) => key,
        }
    }
}
