//! The capabilities of a store.

use kv_core::{Capabilities, Durability, List, Reach, Survives, Transactions};

use crate::config::SyncMode;

/// The capabilities of a store in memory.
pub const MEMORY_CAPABILITIES: Capabilities = Capabilities::CORE
    .with_versions()
    .with_deadlines()
    .with_conditions()
    .with_previous()
    .with_list(List::Native)
    .with_touch()
    .with_counters()
    .with_transactions(Transactions::Any)
    .with_watch(Reach::Process)
    .with_watch_expiry()
    .with_sinks()
    .with_messages(Reach::Process);

/// The capabilities of a store in a file with [`SyncMode::EveryCommit`].
pub const CAPABILITIES: Capabilities =
    MEMORY_CAPABILITIES.with_watch(Reach::Shared).with_shared().with_durability(Durability::surviving(Survives::Power));

impl SyncMode {
    /// The capabilities of a store in a file with this mode.
    pub const fn capabilities(self) -> Capabilities {
        match self {
            Self::EveryCommit => CAPABILITIES,
            Self::LosesOnPowerCut => CAPABILITIES.with_durability(Durability::surviving(Survives::Process)),
        }
    }
}
