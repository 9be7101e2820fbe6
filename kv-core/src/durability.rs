//! What an acknowledged write survives.

use std::fmt;
use std::time::Duration;

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
