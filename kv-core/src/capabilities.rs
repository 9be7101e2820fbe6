//! The capabilities of a store: constants that are known before the store is opened.

use crate::capability::Capability;
use crate::durability::Durability;
use crate::error::{Error, Result};

/// The way in which a store lists keys in order (clause L-3 of the contract).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum List {
    /// The store cannot list keys.
    None,
    /// The store scans all its keys for each page, so the cost of a page grows with the size of the store. Prefer one
    /// long page to many short pages.
    Emulated,
    /// The store has an ordered index, so the cost of a page grows only with the number of entries in the page.
    Native,
}

/// The set of keys that one transaction may span (clause X-1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Transactions {
    /// The store has no transactions.
    None,
    /// Keys whose first segments are equal. The field is the number of these segments.
    WithinFirst(u8),
    /// Any set of keys.
    Any,
}

/// The scope in which a change or a message is delivered (clause P-2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reach {
    /// No receivers: the store lacks the feature.
    None,
    /// Handles in the same process.
    Process,
    /// All processes that use the same backend.
    Shared,
}

/// The features of a store beyond the Core level of the contract. An adapter builds its capabilities as a constant from
/// [`Capabilities::CORE`].
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
#[allow(clippy::struct_excessive_bools, reason = "each is a separate capability, and the builder methods name them")]
pub struct Capabilities {
    /// Entries carry a version, and `When::Version` is supported.
    pub versions: bool,
    /// `Entry::expires` holds the deadline.
    pub deadlines: bool,
    /// `set` and `delete` support conditions other than `Always`.
    pub conditions: bool,
    /// The option `return_previous` is supported.
    pub previous: bool,
    /// The way in which the store lists keys. With [`List::None`], `list` and `clear` are unsupported.
    pub list: List,
    /// The operation `touch` is supported.
    pub touch: bool,
    /// The operation `increment` is supported.
    pub counters: bool,
    /// The set of keys that one `commit` may span.
    pub transactions: Transactions,
    /// The watchers that a change reaches.
    pub watch: Reach,
    /// Watchers are notified of an expired entry, within about a second after its deadline.
    pub watch_expiry: bool,
    /// The operation `watch_into` is supported: changes are passed to sinks.
    pub sinks: bool,
    /// The subscribers that a message reaches.
    pub messages: Reach,
    /// Handles in other processes see the same entries.
    pub shared: bool,
    /// The failures that an acknowledged write survives.
    pub durability: Durability,
    /// The store may drop live entries to free space (clause R-4).
    pub may_evict: bool,
    /// A read may return an entry that was replaced through another handle, as
    /// [`StoreInfo::reads`](crate::StoreInfo::reads) says (clause G-3).
    pub bounded_reads: bool,
}

impl Capabilities {
    /// The Core level alone, without optional capabilities. Every store has at least this level.
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
        sinks: false,
        messages: Reach::None,
        shared: false,
        durability: Durability::VOLATILE,
        may_evict: false,
        bounded_reads: false,
    };

    /// Declares that entries carry versions.
    #[must_use]
    pub const fn with_versions(mut self) -> Self {
        self.versions = true;
        self
    }

    /// Declares that reads return deadlines.
    #[must_use]
    pub const fn with_deadlines(mut self) -> Self {
        self.deadlines = true;
        self
    }

    /// Declares that conditions other than `Always` are supported.
    #[must_use]
    pub const fn with_conditions(mut self) -> Self {
        self.conditions = true;
        self
    }

    /// Declares that previous entries are returned on request.
    #[must_use]
    pub const fn with_previous(mut self) -> Self {
        self.previous = true;
        self
    }

    /// Declares the way in which the store lists keys.
    #[must_use]
    pub const fn with_list(mut self, list: List) -> Self {
        self.list = list;
        self
    }

    /// Declares that `touch` is supported.
    #[must_use]
    pub const fn with_touch(mut self) -> Self {
        self.touch = true;
        self
    }

    /// Declares that `increment` is supported.
    #[must_use]
    pub const fn with_counters(mut self) -> Self {
        self.counters = true;
        self
    }

    /// Declares the set of keys that one transaction may span.
    #[must_use]
    pub const fn with_transactions(mut self, transactions: Transactions) -> Self {
        self.transactions = transactions;
        self
    }

    /// Declares the watchers that a change reaches.
    #[must_use]
    pub const fn with_watch(mut self, watch: Reach) -> Self {
        self.watch = watch;
        self
    }

    /// Declares that watchers are notified of expired entries.
    #[must_use]
    pub const fn with_watch_expiry(mut self) -> Self {
        self.watch_expiry = true;
        self
    }

    /// Declares that changes are passed to sinks.
    #[must_use]
    pub const fn with_sinks(mut self) -> Self {
        self.sinks = true;
        self
    }

    /// Declares the subscribers that a message reaches.
    #[must_use]
    pub const fn with_messages(mut self, messages: Reach) -> Self {
        self.messages = messages;
        self
    }

    /// Declares that other processes see the same entries.
    #[must_use]
    pub const fn with_shared(mut self) -> Self {
        self.shared = true;
        self
    }

    /// Declares the failures that an acknowledged write survives.
    #[must_use]
    pub const fn with_durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Declares that the store may drop live entries to free space.
    #[must_use]
    pub const fn with_may_evict(mut self) -> Self {
        self.may_evict = true;
        self
    }

    /// Declares that a read may return an entry that was replaced through another handle.
    #[must_use]
    pub const fn with_bounded_reads(mut self) -> Self {
        self.bounded_reads = true;
        self
    }

    /// True if the store has the capability.
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
            Capability::Sinks => self.sinks,
            Capability::Messages => !matches!(self.messages, Reach::None),
            Capability::Locks => self.conditions && self.versions && !self.may_evict,
        }
    }

    /// Checks that the store has the capability.
    ///
    /// # Errors
    /// `Unsupported`, which names the capability, if the store does not have it.
    pub fn require(&self, capability: Capability) -> Result<()> {
        if self.has(capability) { Ok(()) } else { Err(Error::unsupported(capability)) }
    }
}
