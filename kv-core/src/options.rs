//! Options and outcomes of reading, writing or deleting a single key.

use bytes::Bytes;

use crate::capabilities::Capabilities;
use crate::capability::Capability;
use crate::entry::Entry;
use crate::error::{Error, Result};
use crate::expiry::{Expires, Expiry};
use crate::key::Key;
use crate::version::Version;

/// The condition of a write. The backend evaluates the condition and applies the write in one atomic step (clause S-2).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum When {
    /// No condition.
    #[default]
    Always,
    /// The key has no live entry.
    Absent,
    /// The key has a live entry.
    Present,
    /// The key has a live entry of exactly this version.
    Version(Version),
    /// The key has a live entry with exactly these bytes.
    Value(Bytes),
}

impl When {
    /// True if the condition holds. `current` is the live entry of the key, or `None` if there is none.
    pub fn holds(&self, current: Option<&Entry>) -> bool {
        match (self, current) {
            (Self::Always, _) | (Self::Absent, None) | (Self::Present, Some(_)) => true,
            (Self::Version(version), Some(entry)) => entry.version.as_ref() == Some(version),
            (Self::Value(value), Some(entry)) => entry.value == value,
            (Self::Absent, Some(_)) | (Self::Present | Self::Version(_) | Self::Value(_), None) => false,
        }
    }

    /// Checks that the store can evaluate the condition.
    ///
    /// # Errors
    /// `Unsupported`, which names the missing capability.
    pub fn check(&self, capabilities: &Capabilities) -> Result<()> {
        match self {
            Self::Always => Ok(()),
            Self::Absent | Self::Present | Self::Value(_) => capabilities.require(Capability::Conditions),
            Self::Version(_) => {
                capabilities.require(Capability::Conditions)?;
                capabilities.require(Capability::Versions)
            }
        }
    }
}

/// The options of a `get_with`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct GetOptions {
    /// True to read past every near tier, from the store that judges conditions.
    pub fresh: bool,
    /// A version that the caller has. If the entry still has this version, the outcome has no value.
    pub unless_version: Option<Version>,
}

impl GetOptions {
    /// Asks for a read past every near tier.
    #[must_use]
    pub fn with_fresh(mut self) -> Self {
        self.fresh = true;
        self
    }

    /// Asks for no value if the entry still has this version.
    #[must_use]
    pub fn with_unless_version(mut self, version: Version) -> Self {
        self.unless_version = Some(version);
        self
    }

    /// Checks that the store supports these options. Every adapter calls this method before any I/O.
    ///
    /// # Errors
    /// `Unsupported` for a version in a store without versions.
    pub fn check(&self, capabilities: &Capabilities) -> Result<()> {
        let Self { fresh: _, unless_version } = self;
        match unless_version {
            Some(_) => capabilities.require(Capability::Versions),
            None => Ok(()),
        }
    }
}

/// The outcome of a `get_with`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GetOutcome {
    /// The live entry.
    Found(Entry),
    /// The entry has the version that the caller has.
    NotModified {
        /// The deadline of the entry. It may have changed, because `touch` keeps the version.
        expires: Expires,
    },
    /// There is no live entry.
    Absent,
}

impl GetOutcome {
    /// Returns the outcome of a read that found this entry.
    pub fn of(entry: Option<Entry>, options: &GetOptions) -> Self {
        match entry {
            None => Self::Absent,
            Some(entry) if options.unless_version.is_some() && entry.version == options.unless_version => {
                Self::NotModified { expires: entry.expires }
            }
            Some(entry) => Self::Found(entry),
        }
    }
}

/// The options of a `set`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct SetOptions {
    /// The expiry of the entry; never by default.
    pub expiry: Expiry,
    /// The condition; `Always` by default.
    pub when: When,
    /// True to return the replaced entry in the outcome.
    pub return_previous: bool,
}

impl SetOptions {
    /// Sets the expiry of the entry.
    #[must_use]
    pub fn with_expiry(mut self, expiry: Expiry) -> Self {
        self.expiry = expiry;
        self
    }

    /// Sets the condition.
    #[must_use]
    pub fn with_when(mut self, when: When) -> Self {
        self.when = when;
        self
    }

    /// Asks for the replaced entry.
    #[must_use]
    pub fn with_previous(mut self) -> Self {
        self.return_previous = true;
        self
    }

    /// Checks that the store supports these options. Every adapter calls this method before any I/O, so that no option
    /// is silently ignored.
    ///
    /// # Errors
    /// `Unsupported`, which names the missing capability.
    pub fn check(&self, capabilities: &Capabilities) -> Result<()> {
        let Self { expiry: _, when, return_previous } = self;
        when.check(capabilities)?;
        check_previous(*return_previous, capabilities)
    }
}

/// The options of a `delete`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct DeleteOptions {
    /// The condition; `Always` by default.
    pub when: When,
    /// True to return the deleted entry in the outcome.
    pub return_previous: bool,
}

impl DeleteOptions {
    /// Sets the condition.
    #[must_use]
    pub fn with_when(mut self, when: When) -> Self {
        self.when = when;
        self
    }

    /// Asks for the deleted entry.
    #[must_use]
    pub fn with_previous(mut self) -> Self {
        self.return_previous = true;
        self
    }

    /// Checks that the store supports these options. Every adapter calls this method before any I/O, so that no option
    /// is silently ignored.
    ///
    /// # Errors
    /// `Unsupported`, which names the missing capability.
    pub fn check(&self, capabilities: &Capabilities) -> Result<()> {
        let Self { when, return_previous } = self;
        when.check(capabilities)?;
        check_previous(*return_previous, capabilities)
    }
}

fn check_previous(requested: bool, capabilities: &Capabilities) -> Result<()> {
    if requested { capabilities.require(Capability::Previous) } else { Ok(()) }
}

/// The options of an `increment`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct IncrementOptions {
    /// The expiry of a counter that this call creates. An existing counter keeps its deadline.
    pub expiry: Expiry,
}

impl IncrementOptions {
    /// Sets the expiry of a counter that this call creates.
    #[must_use]
    pub fn with_expiry(mut self, expiry: Expiry) -> Self {
        self.expiry = expiry;
        self
    }

    /// Checks that the store supports these options and that they are valid. Every adapter calls this method before any
    /// I/O.
    ///
    /// # Errors
    /// `Unsupported` without the counters capability, `Invalid` for [`Expiry::Keep`].
    pub fn check(&self, capabilities: &Capabilities) -> Result<()> {
        let Self { expiry } = self;
        if *expiry == Expiry::Keep {
            return Err(Error::invalid(
                "an increment cannot use `Keep`: an existing counter always keeps its deadline",
            ));
        }
        capabilities.require(Capability::Counters)
    }
}

/// The outcome of a `set`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a refused write changed nothing"]
pub enum SetOutcome {
    /// The entry was written.
    Stored {
        /// The version of the entry; `None` only in a store without versions.
        version: Option<Version>,
        /// The replaced live entry, if the options asked for it.
        previous: Option<Entry>,
    },
    /// The condition did not hold; nothing changed.
    Refused {
        /// The current live entry, or `None` if there is none.
        current: Option<Entry>,
    },
}

impl SetOutcome {
    /// True if the entry was written.
    pub fn is_stored(&self) -> bool {
        matches!(self, Self::Stored { .. })
    }

    /// Returns the version of the entry if it was written.
    pub fn version(&self) -> Option<Version> {
        match self {
            Self::Stored { version, .. } => *version,
            Self::Refused { .. } => None,
        }
    }
}

/// The outcome of a `delete`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a refused delete removed nothing"]
pub enum DeleteOutcome {
    /// A live entry was removed.
    Deleted {
        /// The removed entry, if the options asked for it.
        previous: Option<Entry>,
    },
    /// There was no live entry, and the condition did not require one.
    Missing,
    /// The condition did not hold; nothing changed.
    Refused {
        /// The current live entry, or `None` if there is none.
        current: Option<Entry>,
    },
}

impl DeleteOutcome {
    /// True if a live entry was removed.
    pub fn is_deleted(&self) -> bool {
        matches!(self, Self::Deleted { .. })
    }
}

/// One write of a `set_many`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SetItem {
    /// The key to write.
    pub key: Key,
    /// The value to store.
    pub value: Bytes,
    /// The options of the write.
    pub options: SetOptions,
}

impl SetItem {
    /// Creates a write without a condition that never expires.
    pub fn new(key: Key, value: impl Into<Bytes>) -> Self {
        Self { key, value: value.into(), options: SetOptions::default() }
    }

    /// Sets the options.
    #[must_use]
    pub fn with_options(mut self, options: SetOptions) -> Self {
        self.options = options;
        self
    }
}
