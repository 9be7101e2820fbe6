//! The capabilities of a store.

use kv_core::{Capabilities, Durability, List, Reach, Survives, Transactions};

use crate::config::SledDurability;

/// The capabilities of a store with the default durability. Watchers, sinks and subscribers get only the changes and
/// messages of the same process.
pub const CAPABILITIES: Capabilities = Capabilities::CORE
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
    .with_messages(Reach::Process)
    .with_durability(Durability::surviving(Survives::Process));

/// [`CAPABILITIES`] with another durability.
pub(crate) const fn with(durability: SledDurability) -> Capabilities {
    CAPABILITIES.with_durability(match durability {
        SledDurability::Process => Durability::surviving(Survives::Process),
        SledDurability::Interval(interval) => Durability::surviving(Survives::Process).with_interval(interval),
        SledDurability::Power => Durability::surviving(Survives::Power),
    })
}
