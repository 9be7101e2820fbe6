//! How a single key is written or deleted, and what came of it.

use bytes::Bytes;

use crate::capability::{Capabilities, Capability};
use crate::entry::Entry;
use crate::error::{Error, Result};
use crate::expiry::Expiry;
use crate::key::Key;
use crate::version::Version;

/// The condition under which a write happens, judged in the same atomic step (clause S-2).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum When {
    /// Whatever is there.
    #[default]
    Always,
    /// No live entry is there.
    Absent,
    /// A live entry is there.
    Present,
    /// A live entry of exactly this version is there.
    Version(Version),
    /// A live entry with exactly these bytes is there.
    Value(Bytes),
}

impl When {
    /// Whether the condition holds over this live entry, or over none.
    pub fn holds(&self, current: Option<&Entry>) -> bool {
        match (self, current) {
            (Self::Always, _) | (Self::Absent, None) | (Self::Present, Some(_)) => true,
            (Self::Version(version), Some(entry)) => entry.version.as_ref() == Some(version),
            (Self::Value(value), Some(entry)) => entry.value == value,
            (Self::Absent, Some(_)) | (Self::Present | Self::Version(_) | Self::Value(_), None) => false,
        }
    }

    /// Refuses a condition that the store cannot judge.
    ///
    /// # Errors
    /// `Unsupported`.
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

/// How `set` writes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct SetOptions {
    /// How long the entry lives; for ever unless said.
    pub expiry: Expiry,
    /// Under which condition it is written; always unless said.
    pub when: When,
    /// Whether the outcome brings the entry that was replaced.
    pub return_previous: bool,
}

impl SetOptions {
    /// Sets how long the entry lives.
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

    /// Asks for the entry that is replaced.
    #[must_use]
    pub fn with_previous(mut self) -> Self {
        self.return_previous = true;
        self
    }

    /// Refuses what the store cannot do. Every adapter calls it first, so that no option is ever ignored.
    ///
    /// # Errors
    /// `Unsupported`.
    pub fn check(&self, capabilities: &Capabilities) -> Result<()> {
        let Self { expiry: _, when, return_previous } = self;
        when.check(capabilities)?;
        check_previous(*return_previous, capabilities)
    }
}

/// How `delete` deletes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct DeleteOptions {
    /// Under which condition it is deleted; always unless said.
    pub when: When,
    /// Whether the outcome brings the entry that was deleted.
    pub return_previous: bool,
}

impl DeleteOptions {
    /// Sets the condition.
    #[must_use]
    pub fn with_when(mut self, when: When) -> Self {
        self.when = when;
        self
    }

    /// Asks for the entry that is deleted.
    #[must_use]
    pub fn with_previous(mut self) -> Self {
        self.return_previous = true;
        self
    }

    /// Refuses what the store cannot do. Every adapter calls it first, so that no option is ever ignored.
    ///
    /// # Errors
    /// `Unsupported`.
    pub fn check(&self, capabilities: &Capabilities) -> Result<()> {
        let Self { when, return_previous } = self;
        when.check(capabilities)?;
        check_previous(*return_previous, capabilities)
    }
}

fn check_previous(asked: bool, capabilities: &Capabilities) -> Result<()> {
    if asked { capabilities.require(Capability::Previous) } else { Ok(()) }
}

/// How `increment` creates a counter that is not there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct IncrementOptions {
    /// How long a counter lives that this call creates; one that is there keeps its deadline.
    pub expiry: Expiry,
}

impl IncrementOptions {
    /// Sets how long a counter lives that this call creates.
    #[must_use]
    pub fn with_expiry(mut self, expiry: Expiry) -> Self {
        self.expiry = expiry;
        self
    }

    /// Refuses what the store cannot do, or what means nothing. Every adapter calls it first.
    ///
    /// # Errors
    /// `Unsupported` without counters, `Invalid` for [`Expiry::Keep`].
    pub fn check(&self, capabilities: &Capabilities) -> Result<()> {
        let Self { expiry } = self;
        if *expiry == Expiry::Keep {
            return Err(Error::invalid(
                "a counter that is there always keeps its deadline, and a new one has none to keep",
            ));
        }
        capabilities.require(Capability::Counters)
    }
}

/// What came of a `set`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a refused write changed nothing"]
pub enum SetOutcome {
    /// The entry was written.
    Stored {
        /// The version that it has now; `None` only without versions.
        version: Option<Version>,
        /// The live entry that it replaced, where the options asked for it.
        previous: Option<Entry>,
    },
    /// The condition did not hold, and nothing was changed.
    Refused {
        /// The live entry that is there.
        current: Option<Entry>,
    },
}

impl SetOutcome {
    /// Whether the entry was written.
    pub fn is_stored(&self) -> bool {
        matches!(self, Self::Stored { .. })
    }

    /// The version that the entry has now, where it was written.
    pub fn version(&self) -> Option<Version> {
        match self {
            Self::Stored { version, .. } => *version,
            Self::Refused { .. } => None,
        }
    }
}

/// What came of a `delete`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a refused delete removed nothing"]
pub enum DeleteOutcome {
    /// A live entry was removed.
    Deleted {
        /// The entry, where the options asked for it.
        previous: Option<Entry>,
    },
    /// There was no live entry, and the condition did not ask for one.
    Missing,
    /// The condition did not hold, and nothing was changed.
    Refused {
        /// The live entry that is there.
        current: Option<Entry>,
    },
}

impl DeleteOutcome {
    /// Whether a live entry was removed.
    pub fn is_deleted(&self) -> bool {
        matches!(self, Self::Deleted { .. })
    }
}

/// One write of a `set_many`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SetItem {
    /// Where to write.
    pub key: Key,
    /// What to write.
    pub value: Bytes,
    /// How to write.
    pub options: SetOptions,
}

impl SetItem {
    /// A write without condition that never expires.
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
