//! The steps of a script. They refer to versions and times symbolically, so that a script is the same on every store.

use std::time::{Duration, SystemTime};

use kv_core::{Expiry, Key, NewExpiry};

/// A key of the script, as an index into [`KEYS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct KeyIndex(pub(super) usize);

/// Few keys, so that steps use the same ones: parents and children, an empty segment, and one text that starts with
/// another.
pub(super) const KEYS: &[&[&str]] = &[&["a"], &["b"], &["a", "b"], &["a", ""], &["ab"], &["a:b"], &["a", "b", "c"]];

impl KeyIndex {
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

/// A value of the script, as an index into [`VALUES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ValueIndex(pub(super) usize);

/// Few values, so that conditions often hold. Some are numbers.
pub(super) const VALUES: &[&str] = &["v", "w", "1", "", "-7", "9223372036854775807", "null"];

impl ValueIndex {
    pub(super) fn text(self) -> &'static str {
        VALUES.get(self.0).copied().unwrap_or("v")
    }
}

/// The lifetime of an entry, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lifetime {
    Never,
    Keep,
    After(u64),
    /// Until this time after the script began.
    Until(u64),
}

impl Lifetime {
    pub(super) fn expiry(self, start: SystemTime) -> Expiry {
        match self {
            Self::Never => Expiry::Never,
            Self::Keep => Expiry::Keep,
            Self::After(millis) => Expiry::After(Duration::from_millis(millis)),
            Self::Until(millis) => Expiry::At(start + Duration::from_millis(millis)),
        }
    }

    /// The same for `touch` and `increment`, where `Keep` means never.
    pub(super) fn new_expiry(self, start: SystemTime) -> NewExpiry {
        match self {
            Self::Never | Self::Keep => NewExpiry::Never,
            Self::After(millis) => NewExpiry::After(Duration::from_millis(millis)),
            Self::Until(millis) => NewExpiry::At(start + Duration::from_millis(millis)),
        }
    }
}

/// The condition of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    Always,
    Absent,
    Present,
    Value(ValueIndex),
    /// The version that the script saw last of this key. The step may write another key.
    SeenVersion(KeyIndex),
}

/// A `set`, or an item of `set_many`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Write {
    pub(super) key: KeyIndex,
    pub(super) value: ValueIndex,
    pub(super) lifetime: Lifetime,
    pub(super) condition: Condition,
    pub(super) previous: bool,
}

/// A mutation of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    Set(KeyIndex, ValueIndex, Lifetime),
    Delete(KeyIndex),
}

/// A `list`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listing {
    /// `None` lists everything.
    pub(super) prefix: Option<KeyIndex>,
    pub(super) after: Option<KeyIndex>,
    pub(super) before: Option<KeyIndex>,
    pub(super) reverse: bool,
    pub(super) limit: Option<usize>,
    pub(super) keys_only: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Get(KeyIndex),
    Contains(KeyIndex),
    Set(Write),
    Delete {
        key: KeyIndex,
        condition: Condition,
        previous: bool,
    },
    GetMany(Vec<KeyIndex>),
    SetMany(Vec<Write>),
    DeleteMany(Vec<KeyIndex>),
    List(Listing),
    Clear(Option<KeyIndex>),
    Touch(KeyIndex, Lifetime),
    Increment {
        key: KeyIndex,
        by: i64,
        lifetime: Lifetime,
    },
    Commit {
        checks: Vec<(KeyIndex, Condition)>,
        changes: Vec<Change>,
    },
    /// Advances the time, in milliseconds.
    Advance(u64),
    Sweep,
}
