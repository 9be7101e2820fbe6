//! The features that a store may lack.

use std::fmt;

/// One feature that a store may lack. An [`Unsupported`](crate::ErrorKind::Unsupported) error names the missing one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Capability {
    /// Entries carry a version, and `When::Version` is supported.
    Versions,
    /// Reads return the deadline of an entry.
    Deadlines,
    /// Conditions other than `Always` on `set` and `delete`.
    Conditions,
    /// The option `return_previous`.
    Previous,
    /// The operations `list` and `clear`.
    List,
    /// The operation `touch`.
    Touch,
    /// The operation `increment`.
    Counters,
    /// The operation `commit`.
    Transactions,
    /// The operation `watch`.
    Watch,
    /// The operations `publish` and `subscribe`.
    Messages,
    /// Locks that end only by release or by their deadline. A store that may evict entries has none.
    Locks,
}

impl Capability {
    /// All capabilities, in the order of reports.
    pub const ALL: &'static [Self] = &[
        Self::Versions,
        Self::Deadlines,
        Self::Conditions,
        Self::Previous,
        Self::List,
        Self::Touch,
        Self::Counters,
        Self::Transactions,
        Self::Watch,
        Self::Messages,
        Self::Locks,
    ];
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Versions => "versions",
            Self::Deadlines => "deadlines",
            Self::Conditions => "conditions",
            Self::Previous => "previous values",
            Self::List => "list",
            Self::Touch => "touch",
            Self::Counters => "counters",
            Self::Transactions => "transactions",
            Self::Watch => "watch",
            Self::Messages => "messages",
            Self::Locks => "locks",
        })
    }
}
