//! What a script can do. Versions and times are named, not given, so that a script is the same on every store.

use std::time::{Duration, SystemTime};

use kv_core::{Expiry, Key, NewExpiry};

/// A key of the script, by its place among [`KEYS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Name(pub(super) usize);

/// Few keys, so that steps meet: parents and children, an empty segment, one that is the beginning of another.
pub(super) const KEYS: &[&[&str]] = &[&["a"], &["b"], &["a", "b"], &["a", ""], &["ab"], &["a:b"], &["a", "b", "c"]];

impl Name {
    pub(super) fn segments(self) -> &'static [&'static str] {
        KEYS.get(self.0).copied().unwrap_or(&["a"])
    }

    pub(super) fn key(self) -> Key {
        match Key::new(self.segments()) {
            Ok(key) => key,
            Err(error) => unreachable!("the keys of scripts are valid: {error}"),
        }
    }
}

/// A value of the script, by its place among [`VALUES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Text(pub(super) usize);

/// Few values, so that conditions hold; some are numbers.
pub(super) const VALUES: &[&str] = &["v", "w", "1", "", "-7", "9223372036854775807", "null"];

impl Text {
    pub(super) fn text(self) -> &'static str {
        VALUES.get(self.0).copied().unwrap_or("v")
    }
}

/// How long an entry lives, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    Never,
    Keep,
    After(u64),
    /// Until so long after the script began.
    Until(u64),
}

impl Life {
    pub(super) fn expiry(self, start: SystemTime) -> Expiry {
        match self {
            Self::Never => Expiry::Never,
            Self::Keep => Expiry::Keep,
            Self::After(millis) => Expiry::After(Duration::from_millis(millis)),
            Self::Until(millis) => Expiry::At(start + Duration::from_millis(millis)),
        }
    }

    /// The same for `touch`, which keeps nothing.
    pub(super) fn new_expiry(self, start: SystemTime) -> NewExpiry {
        match self {
            Self::Never | Self::Keep => NewExpiry::Never,
            Self::After(millis) => NewExpiry::After(Duration::from_millis(millis)),
            Self::Until(millis) => NewExpiry::At(start + Duration::from_millis(millis)),
        }
    }
}

/// Under which condition a step happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Guard {
    Always,
    Absent,
    Present,
    Value(Text),
    /// The version that the script last saw of this key, of whatever key is written.
    SeenOf(Name),
}

/// One write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Write {
    pub(super) key: Name,
    pub(super) value: Text,
    pub(super) life: Life,
    pub(super) guard: Guard,
    pub(super) previous: bool,
}

/// One mutation of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    Set(Name, Text, Life),
    Delete(Name),
}

/// What is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listing {
    /// `None`: everything.
    pub(super) prefix: Option<Name>,
    pub(super) after: Option<Name>,
    pub(super) before: Option<Name>,
    pub(super) reverse: bool,
    pub(super) limit: Option<usize>,
    pub(super) keys_only: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Get(Name),
    Contains(Name),
    Set(Write),
    Delete {
        key: Name,
        guard: Guard,
        previous: bool,
    },
    GetMany(Vec<Name>),
    SetMany(Vec<Write>),
    DeleteMany(Vec<Name>),
    List(Listing),
    Clear(Option<Name>),
    Touch(Name, Life),
    Increment {
        key: Name,
        by: i64,
        life: Life,
    },
    Commit {
        checks: Vec<(Name, Guard)>,
        changes: Vec<Change>,
    },
    /// Time passes, in milliseconds.
    Pass(u64),
    Sweep,
}
