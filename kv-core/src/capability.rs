//! What a store can do, as constants that are known before it is opened.

use std::fmt;

use crate::durability::Durability;
use crate::error::{Error, Result};

/// One thing that a store may be unable to do; an [`Unsupported`](crate::ErrorKind::Unsupported) error names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Capability {
    /// Entries carry a version, and `When::Version` can be asked.
    Versions,
    /// The deadline of an entry can be read back.
    Deadlines,
    /// Conditions on `set` and `delete` other than `Always`.
    Conditions,
    /// `return_previous`.
    Previous,
    /// `list` and `clear`.
    List,
    /// `touch`.
    Touch,
    /// `increment`.
    Counters,
    /// `commit`.
    Transactions,
    /// `watch`.
    Watch,
    /// `publish` and `subscribe`.
    Messages,
    /// A lock that nothing but its deadline takes away: not on a store that may evict.
    Locks,
}

impl Capability {
    /// Every capability, in the order of reports.
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

/// How a store lists keys in order (clause L-3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum List {
    /// Not at all.
    None,
    /// By scanning everything: the cost follows the size of the store. Ask for one long page rather than for many.
    Emulated,
    /// By an ordered index: the cost follows what is returned.
    Native,
}

/// Over which keys a transaction may reach (clause X-1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Transactions {
    /// None.
    None,
    /// Keys whose first `n` segments are equal.
    WithinFirst(u8),
    /// Any keys.
    Any,
}

/// Who sees a watched change or a published message (clause P-2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reach {
    /// Nobody: there is none.
    None,
    /// The handles of this process.
    Process,
    /// Every process on the same backend.
    Shared,
}

/// What a store can do beyond Core; a constant that its adapter builds from [`Capabilities::CORE`].
///
/// # Examples
/// ```
/// use kv_core::{Capabilities, Capability, List};
///
/// const MINE: Capabilities = Capabilities::CORE.with_list(List::Native).with_conditions();
/// assert!(MINE.has(Capability::List));
/// assert!(!MINE.has(Capability::Watch));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[allow(clippy::struct_excessive_bools, reason = "each is a capability of its own, and the builders name them")]
pub struct Capabilities {
    /// Entries carry a version, and `When::Version` can be asked.
    pub versions: bool,
    /// `Entry::expires` tells the deadline.
    pub deadlines: bool,
    /// Conditions on `set` and `delete`.
    pub conditions: bool,
    /// `return_previous`.
    pub previous: bool,
    /// `list` and `clear`.
    pub list: List,
    /// `touch`.
    pub touch: bool,
    /// `increment`.
    pub counters: bool,
    /// `commit`.
    pub transactions: Transactions,
    /// `watch`.
    pub watch: Reach,
    /// A watcher is told of expired entries, within about a second.
    pub watch_expiry: bool,
    /// `publish` and `subscribe`.
    pub messages: Reach,
    /// Handles in other processes see the same entries.
    pub shared: bool,
    /// What an acknowledged write survives.
    pub durability: Durability,
    /// Live entries may be dropped for want of room (clause R-4).
    pub may_evict: bool,
}

impl Capabilities {
    /// What every store owes and nothing else.
    pub const CORE: Self = Self {
        versions: false,
        deadlines: false,
        conditions: false,
        previous: false,
        list: List::None,
        touch: false,
        counters: false,
        transactions: Transactions::None,
        watch: Reach::None,
        watch_expiry: false,
        messages: Reach::None,
        shared: false,
        durability: Durability::VOLATILE,
        may_evict: false,
    };

    /// Entries carry versions.
    #[must_use]
    pub const fn with_versions(mut self) -> Self {
        self.versions = true;
        self
    }

    /// Deadlines read back.
    #[must_use]
    pub const fn with_deadlines(mut self) -> Self {
        self.deadlines = true;
        self
    }

    /// Conditions are judged.
    #[must_use]
    pub const fn with_conditions(mut self) -> Self {
        self.conditions = true;
        self
    }

    /// Previous entries are returned on request.
    #[must_use]
    pub const fn with_previous(mut self) -> Self {
        self.previous = true;
        self
    }

    /// Keys are listed, this way.
    #[must_use]
    pub const fn with_list(mut self, list: List) -> Self {
        self.list = list;
        self
    }

    /// Deadlines can be moved.
    #[must_use]
    pub const fn with_touch(mut self) -> Self {
        self.touch = true;
        self
    }

    /// Counters count.
    #[must_use]
    pub const fn with_counters(mut self) -> Self {
        self.counters = true;
        self
    }

    /// Transactions reach this far.
    #[must_use]
    pub const fn with_transactions(mut self, transactions: Transactions) -> Self {
        self.transactions = transactions;
        self
    }

    /// Changes are watched, seen by these.
    #[must_use]
    pub const fn with_watch(mut self, watch: Reach) -> Self {
        self.watch = watch;
        self
    }

    /// Watchers are told of expired entries.
    #[must_use]
    pub const fn with_watch_expiry(mut self) -> Self {
        self.watch_expiry = true;
        self
    }

    /// Messages are published to these.
    #[must_use]
    pub const fn with_messages(mut self, messages: Reach) -> Self {
        self.messages = messages;
        self
    }

    /// Other processes see the same entries.
    #[must_use]
    pub const fn with_shared(mut self) -> Self {
        self.shared = true;
        self
    }

    /// An acknowledged write survives this.
    #[must_use]
    pub const fn with_durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Live entries may be dropped for want of room.
    #[must_use]
    pub const fn with_may_evict(mut self) -> Self {
        self.may_evict = true;
        self
    }

    /// Whether the store can do this.
    pub const fn has(&self, capability: Capability) -> bool {
        match capability {
            Capability::Versions => self.versions,
            Capability::Deadlines => self.deadlines,
            Capability::Conditions => self.conditions,
            Capability::Previous => self.previous,
            Capability::List => !matches!(self.list, List::None),
            Capability::Touch => self.touch,
            Capability::Counters => self.counters,
            Capability::Transactions => !matches!(self.transactions, Transactions::None),
            Capability::Watch => !matches!(self.watch, Reach::None),
            Capability::Messages => !matches!(self.messages, Reach::None),
            Capability::Locks => self.conditions && self.versions && !self.may_evict,
        }
    }

    /// Refuses what the store cannot do.
    ///
    /// # Errors
    /// `Unsupported`, naming the capability.
    pub fn require(&self, capability: Capability) -> Result<()> {
        if self.has(capability) { Ok(()) } else { Err(Error::unsupported(capability)) }
    }
}
