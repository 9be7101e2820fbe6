//! The capabilities of a store.

use kv_core::{Capabilities, List, Reach, Transactions};

/// The capabilities of an unbounded store: all capabilities. Watchers and subscribers get only the changes and messages
/// of the same process.
pub const CAPABILITIES: Capabilities = SHARED.with_transactions(Transactions::Any);

/// The capabilities of a bounded store. A bounded store has no transactions and no locks, because it may evict live
/// entries.
pub const BOUNDED_CAPABILITIES: Capabilities = SHARED.with_may_evict();

/// The capabilities that both kinds of store have.
const SHARED: Capabilities = Capabilities::CORE
    .with_versions()
    .with_deadlines()
    .with_conditions()
    .with_previous()
    .with_list(List::Native)
    .with_touch()
    .with_counters()
    .with_watch(Reach::Process)
    .with_watch_expiry()
    .with_sinks()
    .with_messages(Reach::Process);
