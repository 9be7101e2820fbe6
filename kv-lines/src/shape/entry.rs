//! The JSON forms of entries, deadlines and outcomes of writes.

use std::time::{Duration, SystemTime};

use kv_core::{
    CommitOutcome, Deadline, DeleteOutcome, Error, Expires, Expiry, Key, ListItem, ListPage, Result, SetOutcome,
    Version,
};
use serde::{Deserialize, Serialize};

use super::error::Failure;
use super::key::Segments;
use super::value::Value;

/// A deadline: milliseconds since the Unix epoch, `null` for never, `"unknown"` if the store does not report it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ExpiresAt {
    /// The deadline, in milliseconds since the Unix epoch.
    Millis(u64),
    /// The entry does not expire.
    Never,
    /// The store does not report deadlines.
    Unknown(Unknown),
}

/// The JSON string `"unknown"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unknown {
    /// The only value.
    Unknown,
}

impl From<Expires> for ExpiresAt {
    fn from(expires: Expires) -> Self {
        match expires {
            Expires::At(moment) => Self::Millis(unix_millis(moment)),
            Expires::Never => Self::Never,
            _ => Self::Unknown(Unknown::Unknown),
        }
    }
}

impl From<ExpiresAt> for Expires {
    fn from(expires: ExpiresAt) -> Self {
        match expires {
            ExpiresAt::Millis(millis) => Deadline::from_millis(millis).into(),
            ExpiresAt::Never => Self::Never,
            ExpiresAt::Unknown(Unknown::Unknown) => Self::Unknown,
        }
    }
}

/// An entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The value.
    #[serde(flatten)]
    pub value: Value,
    /// The version, if the store has versions.
    pub version: Option<Version>,
    /// The deadline.
    pub expires_at: ExpiresAt,
}

impl From<&kv_core::Entry> for Entry {
    fn from(entry: &kv_core::Entry) -> Self {
        Self { value: Value::of(&entry.value), version: entry.version, expires_at: entry.expires.into() }
    }
}

impl Entry {
    /// Decodes the entry.
    ///
    /// # Errors
    /// `Invalid` for bad base64.
    pub fn into_entry(self) -> Result<kv_core::Entry> {
        let Self { value, version, expires_at } = self;
        let mut entry = kv_core::Entry::new(value.into_bytes()?).with_expires(expires_at);
        entry.version = version;
        Ok(entry)
    }
}

pub(crate) fn encode_entry(entry: Option<&kv_core::Entry>) -> Option<Entry> {
    entry.map(Entry::from)
}

pub(crate) fn decode_entry(entry: Option<Entry>) -> Result<Option<kv_core::Entry>> {
    entry.map(Entry::into_entry).transpose()
}

/// A key of a list, with its entry unless the request had `keys_only`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Item {
    #[serde(flatten)]
    entry: Option<Entry>,
    key: Segments,
}

impl From<&ListItem> for Item {
    fn from(ListItem { key, entry }: &ListItem) -> Self {
        Self { entry: encode_entry(entry.as_ref()), key: key.into() }
    }
}

impl Item {
    pub(crate) fn into_item(self) -> Result<ListItem> {
        Ok(ListItem { key: self.key.key()?, entry: decode_entry(self.entry)? })
    }
}

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

/// A page of a list.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Page {
    pub(crate) items: Vec<Item>,
    /// The entries of the page that cannot be read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) damaged: Vec<Damaged>,
    pub(crate) next: Option<Segments>,
}

impl From<&ListPage> for Page {
    fn from(ListPage { items, damaged, next }: &ListPage) -> Self {
        Self {
            items: items.iter().map(Item::from).collect(),
            damaged: damaged.iter().map(Damaged::from).collect(),
            next: next.as_ref().map(Segments::from),
        }
    }
}

impl Page {
    pub(crate) fn into_page(self) -> Result<ListPage> {
        let Self { items, damaged, next } = self;
        Ok(ListPage {
            items: items.into_iter().map(Item::into_item).collect::<Result<_>>()?,
            damaged: damaged.into_iter().map(Damaged::into_error).collect::<Result<_>>()?,
            next: next.as_ref().map(Segments::key).transpose()?,
        })
    }
}

/// The error of an entry that a list cannot read.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Damaged {
    key: Option<Segments>,
    error: Failure,
}

impl From<&Error> for Damaged {
    fn from(error: &Error) -> Self {
        Self { key: error.key().map(Segments::from), error: error.into() }
    }
}

impl Damaged {
    fn into_error(self) -> Result<Error> {
        let error = self.error.into_error();
        Ok(match self.key {
            Some(key) => error.with_key(&key.key()?),
            None => error,
        })
    }
}

/// Converts a moment into milliseconds since the Unix epoch, rounded up.
pub fn unix_millis(moment: SystemTime) -> u64 {
    let deadline = Deadline::resolve(Expiry::At(moment), SystemTime::UNIX_EPOCH, None);
    deadline.as_millis().unwrap_or(u64::MAX)
}

/// Returns the expiry at `since` after the Unix epoch, or `Never` if the system cannot represent that moment.
pub fn expiry_at_unix(since: Duration) -> Expiry {
    match SystemTime::UNIX_EPOCH.checked_add(since) {
        Some(moment) => Expiry::At(moment),
        None => Expiry::Never,
    }
}

/// Returns the segments of a key.
pub fn segments(key: &Key) -> Vec<String> {
    key.segments().map(std::borrow::Cow::into_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_are_milliseconds_null_or_unknown() {
        let json = |expires: Expires| serde_json::to_string(&ExpiresAt::from(expires)).unwrap();
        assert_eq!(json(Deadline::from_millis(1_767_225_600_123).into()), "1767225600123");
        assert_eq!((json(Expires::Never).as_str(), json(Expires::Unknown).as_str()), ("null", r#""unknown""#));
        assert_eq!(json(Deadline::from_millis(0).into()), "0");
        for expires in [Expires::Never, Expires::Unknown, Deadline::from_millis(5).into()] {
            let read: ExpiresAt = serde_json::from_str(&json(expires)).unwrap();
            assert_eq!(Expires::from(read), expires);
        }
    }

    #[test]
    fn an_item_round_trips_with_and_without_its_entry() {
        let key = Key::new(["a", "b"]).unwrap();
        for entry in [None, Some(kv_core::Entry::new(&b"\xff"[..]).with_version(Version::random()))] {
            let item = ListItem { key: key.clone(), entry };
            let line = serde_json::to_string(&Item::from(&item)).unwrap();
            assert_eq!(serde_json::from_str::<Item>(&line).unwrap().into_item().unwrap(), item, "{line}");
        }
    }
}
