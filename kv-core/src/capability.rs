//! The features that a store may lack.

use std::fmt;

/// One feature that a store may lack. An [`Unsupported`](crate::ErrorKind::Unsupported) error names the missing
/// feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Capability {
    /// Entries carry a version, and `When::Version` is supported.
    Versions,
    /// Reads return the deadline of an entry.
    Deadlines,
    /// `set` and `delete` support conditions other than `Always`.
    Conditions,
    /// The option `return_previous` is supported.
    Previous,
    /// The operations `list` and `clear` are supported.
    List,
    /// The operation `touch` is supported.
    Touch,
    /// The operation `increment` is supported.
    Counters,
    /// The operation `commit` is supported.
    Transactions,
    /// The operation `watch` is supported.
    Watch,
    /// The operation `watch_into` is supported.
    Sinks,
    /// The operations `publish` and `subscribe` are supported.
    Messages,
    /// Locks end only when they are released or at their deadline. A store that may evict entries lacks this
    /// capability.
    Locks,
}

impl Capability {
    /// All capabilities, in the order in which reports list them.
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
        Self::Sinks,
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
            Self::Sinks => "change sinks",
            Self::Messages => "messages",
            Self::Locks => "locks",
        })
    }
}
