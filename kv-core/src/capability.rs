//! What a store can do, as constants that are known before it is opened.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

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

/// What an acknowledged write survives (clause R-2); each level includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Survives {
    /// Nothing is promised beyond the life of the store.
    Volatile,
    /// The sudden end of this process (`kill -9`).
    Process,
    /// The sudden end of the server.
    Server,
    /// Loss of power: it was flushed to the medium before the acknowledgement.
    Power,
}

/// The durability of an acknowledged write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Durability {
    /// What an acknowledged write survives.
    pub survives: Survives,
    /// At most the writes of this last stretch of time are lost all the same; zero: none.
    pub interval: Duration,
}

impl Durability {
    /// Nothing is promised.
    pub const VOLATILE: Self = Self::surviving(Survives::Volatile);

    /// Every acknowledged write survives this.
    pub const fn surviving(survives: Survives) -> Self {
        Self { survives, interval: Duration::ZERO }
    }

    /// At most the writes of the last `interval` are lost.
    #[must_use]
    pub const fn with_interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.survives {
            Survives::Volatile => "volatile",
            Survives::Process => "process",
            Survives::Server => "server",
            Survives::Power => "power",
        })?;
        if self.interval.is_zero() {
            return Ok(());
        }
        write!(f, ", up to {} lost", humantime::format_duration(self.interval))
    }
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
    pub fn require(&self, capability: Capability) -> crate::Result<()> {
        if self.has(capability) { Ok(()) } else { Err(crate::Error::unsupported(capability)) }
    }
}

/// How much a store takes; above it a call is `Invalid` before any I/O.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Limits {
    /// The largest value, in bytes; at least [`Limits::MIN_VALUE_BYTES`] (clause V-3).
    pub max_value_bytes: usize,
    /// The largest message, in bytes; at least [`Limits::MIN_MESSAGE_BYTES`] (clause P-1).
    pub max_message_bytes: usize,
}

impl Limits {
    /// Every store takes values of this size, in bytes.
    pub const MIN_VALUE_BYTES: usize = 8 << 20;
    /// Every store with messages takes them of this size, in bytes.
    pub const MIN_MESSAGE_BYTES: usize = 1 << 20;
    /// 16 MiB a value and 1 MiB a message.
    pub const DEFAULT: Self = Self { max_value_bytes: 16 << 20, max_message_bytes: Self::MIN_MESSAGE_BYTES };

    /// Sets the largest value, in bytes.
    #[must_use]
    pub const fn with_max_value_bytes(mut self, bytes: usize) -> Self {
        self.max_value_bytes = bytes;
        self
    }

    /// Sets the largest message, in bytes.
    #[must_use]
    pub const fn with_max_message_bytes(mut self, bytes: usize) -> Self {
        self.max_message_bytes = bytes;
        self
    }

    /// Refuses a value that is too large.
    ///
    /// # Errors
    /// `Invalid`, with size and limit.
    pub fn check_value(&self, bytes: usize) -> crate::Result<()> {
        Self::check("value", bytes, self.max_value_bytes)
    }

    /// Refuses a message that is too large.
    ///
    /// # Errors
    /// `Invalid`, with size and limit.
    pub fn check_message(&self, bytes: usize) -> crate::Result<()> {
        Self::check("message", bytes, self.max_message_bytes)
    }

    fn check(what: &str, bytes: usize, limit: usize) -> crate::Result<()> {
        if bytes > limit {
            return Err(crate::Error::invalid(format!("the {what} has {bytes} bytes, the limit is {limit}")));
        }
        Ok(())
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// What a store says of itself: constant after it was opened, and free to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreInfo {
    /// The name of the backend, such as `memory`.
    pub name: Cow<'static, str>,
    /// What it can do.
    pub capabilities: Capabilities,
    /// How much it takes.
    pub limits: Limits,
}

impl StoreInfo {
    /// A store of this name and these capabilities, with [`Limits::DEFAULT`].
    pub fn new(name: impl Into<Cow<'static, str>>, capabilities: Capabilities) -> Self {
        Self { name: name.into(), capabilities, limits: Limits::DEFAULT }
    }

    /// Sets the limits.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }
}
