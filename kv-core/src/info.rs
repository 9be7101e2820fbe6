//! The name, capabilities and limits of a store.

use std::borrow::Cow;

use crate::capabilities::Capabilities;
use crate::limits::Limits;

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
}

impl StoreInfo {
    /// Creates the information of a store with this name, these capabilities and [`Limits::DEFAULT`].
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
