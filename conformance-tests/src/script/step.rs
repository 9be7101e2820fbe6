//! The steps of a script. They refer to versions and times symbolically, so that a script is the same on every store.

use std::time::{Duration, SystemTime};

use kv_core::{Expiry, Key, NewExpiry};

/// A key of the script, as an index into [`KEYS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct KeyIndex(pub(super) usize);

/// The keys of scripts. They are few, so that several steps use the same key. There are parents and children, an empty
/// segment, and a segment that starts with another segment.
pub(super) const KEYS: &[&[&str]] = &[&["a"], &["b"], &["a", "b"], &["a", ""], &["ab"], &["a:b"], &["a", "b", "c"]];

impl KeyIndex {
    pub(super) fn segments(self) -> &'static [&'static str] {
        KEYS.get(self.0).copied().unwrap_or(&["a"])
    }

    /// The index of the key, if the script uses it.
    pub(super) fn of(key: &Key) -> Option<Self> {
        (0..KEYS.len()).map(KeyIndex).find(|index| index.key() == *key)
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

/// The values of scripts. They are few, so that conditions on a value often hold. Some values are numbers.
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

    /// Returns the expiry for `touch` and `increment`. These have no `Keep`, so `Keep` becomes `Never`.
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

/// A place for an open watch. A slot holds at most one watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Slot(pub(super) usize);

/// The number of slots.
pub(super) const SLOTS: usize = 2;

/// The keys of a watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// `None` watches everything.
    Prefix(Option<KeyIndex>),
    Key(KeyIndex),
}

impl Target {
    pub(super) fn covers(self, key: KeyIndex) -> bool {
        match self {
            Self::Prefix(prefix) => covers(prefix, key),
            Self::Key(wanted) => wanted == key,
        }
    }
}

/// True if the prefix covers the key. `None` covers every key.
pub(super) fn covers(prefix: Option<KeyIndex>, key: KeyIndex) -> bool {
    prefix.is_none_or(|prefix| key.segments().starts_with(prefix.segments()))
}

/// A `watch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Watching {
    pub(super) target: Target,
    pub(super) snapshot: bool,
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
    /// Takes a value through the handle `Kv`.
    Take(KeyIndex),
    /// Starts the calls together and awaits all of them. Some order of the calls must explain all answers.
    Together(Vec<Self>),
    /// Opens a watch, and drops the earlier watch in the slot.
    Watch(Slot, Watching),
    Unwatch(Slot),
    /// Reads the events of the watch until each change before this step was reported.
    ReadEvents(Slot),
    /// Subscribes to the channels under a prefix, and drops the earlier subscription.
    Subscribe(Option<KeyIndex>),
    Publish(KeyIndex, ValueIndex),
    /// Reads the messages of the subscription, up to the last message that was published before this step.
    ReadMessages,
    /// Advances the time by this number of milliseconds.
    Advance(u64),
    Sweep,
}

impl Step {
    /// The single calls that the step consists of. A batch is not atomic, so other calls may come between its parts.
    pub(super) fn parts(&self) -> Vec<Self> {
        match self {
            Self::GetMany(keys) => keys.iter().map(|key| Self::Get(*key)).collect(),
            Self::SetMany(writes) => writes.iter().cloned().map(Self::Set).collect(),
            Self::DeleteMany(keys) => {
                let delete = |key: &KeyIndex| Self::Delete { key: *key, condition: Condition::Always, previous: false };
                keys.iter().map(delete).collect()
            }
            single => vec![single.clone()],
        }
    }

    /// True if the step is a batch. The answer to a batch has one answer for each part.
    pub(super) fn is_batch(&self) -> bool {
        matches!(self, Self::GetMany(_) | Self::SetMany(_) | Self::DeleteMany(_))
    }
}
