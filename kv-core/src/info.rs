//! The name, capabilities and limits of a store.

use std::borrow::Cow;
use std::time::Duration;

use crate::capabilities::Capabilities;
use crate::capability::Capability;
use crate::error::{Error, Operation};
use crate::limits::Limits;

/// The age of the entries that reads return (clause G-3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Reads {
    /// A read returns the latest write that was acknowledged to any caller, or a newer write.
    #[default]
    Linearizable,
    /// A read returns the latest write that was acknowledged through the same handle, or a newer write, and what was
    /// acknowledged to others is visible within this time.
    Bounded(Duration),
}

/// The name, capabilities and limits of a store. They are constant after the store was opened, and reading them does no
/// I/O.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreInfo {
    /// The name of the backend, such as `memory`.
    pub name: Cow<'static, str>,
    /// The capabilities beyond Core.
    pub capabilities: Capabilities,
    /// The size limits.
    pub limits: Limits,
    /// The age of the entries that reads return. [`Reads::Bounded`] only with
    /// [`Capabilities::bounded_reads`](crate::Capabilities::bounded_reads).
    pub reads: Reads,
    /// The longest time for which a [`ChangeSink`](crate::ChangeSink) does not learn that changes may be missing. The
    /// store calls `lost` at the latest when `as_of` is this old, and a sink that was paused compares `as_of` itself.
    /// Zero means that every change is passed on inside the section that makes it visible. [`Duration::MAX`] in a store
    /// without [`Capabilities::sinks`](crate::Capabilities::sinks).
    pub watch_loss_bound: Duration,
}

impl StoreInfo {
    /// Creates the information of a store with this name, these capabilities, [`Limits::DEFAULT`], linearizable reads,
    /// and no bound for the loss of changes.
    pub fn new(name: impl Into<Cow<'static, str>>, capabilities: Capabilities) -> Self {
        Self {
            name: name.into(),
            capabilities,
            limits: Limits::DEFAULT,
            reads: Reads::Linearizable,
            watch_loss_bound: Duration::MAX,
        }
    }

    /// Adds the operation and the name of the store to an error.
    pub(crate) fn in_context(&self, error: Error, operation: Operation) -> Error {
        error.with_operation(operation).with_backend(self.name.clone())
    }

    /// Returns the error of a default body.
    pub(crate) fn unsupported(&self, operation: Operation, capability: Capability) -> Error {
        self.in_context(Error::unsupported(capability), operation)
    }

    /// Sets the limits.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets the age of the entries that reads return.
    #[must_use]
    pub fn with_reads(mut self, reads: Reads) -> Self {
        self.reads = reads;
        self
    }

    /// Sets the longest time for which a sink does not learn that changes may be missing.
    #[must_use]
    pub fn with_watch_loss_bound(mut self, bound: Duration) -> Self {
        self.watch_loss_bound = bound;
        self
    }
}
