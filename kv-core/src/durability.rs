//! Durability of acknowledged writes.

use std::fmt;
use std::time::Duration;

/// The worst failure that an acknowledged write survives (clause R-2). Each level includes the levels above it in this
/// list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Survives {
    /// No failure. Entries may even be lost when the store is closed.
    Volatile,
    /// An abrupt end of this process (`kill -9`).
    Process,
    /// An abrupt end of the server.
    Server,
    /// Loss of power: the write was flushed to the medium before the acknowledgement.
    Power,
}

/// The durability of an acknowledged write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Durability {
    /// The worst failure that an acknowledged write survives.
    pub survives: Survives,
    /// The time span before the failure in which acknowledged writes may still be lost. If the span is zero, no write
    /// is lost.
    pub interval: Duration,
}

impl Durability {
    /// No acknowledged write is certain to survive a failure.
    pub const VOLATILE: Self = Self::surviving(Survives::Volatile);

    /// Creates a durability in which every acknowledged write survives this failure.
    pub const fn surviving(survives: Survives) -> Self {
        Self { survives, interval: Duration::ZERO }
    }

    /// Allows the loss of writes from the last `interval` before a failure.
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
