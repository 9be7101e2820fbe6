//! What a store says of itself.

use std::borrow::Cow;

use crate::capability::Capabilities;
use crate::limits::Limits;

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
