//! The capabilities of the two engines.

use kv_core::{Capabilities, List, Reach, Transactions};

/// The capabilities of an unbounded store: everything, inside this process.
pub const CAPABILITIES: Capabilities = SHARED.with_transactions(Transactions::Any);

/// The capabilities of a bounded store. It may evict live entries, so it has no transactions and no locks.
pub const BOUNDED_CAPABILITIES: Capabilities = SHARED.with_may_evict();

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
    .with_messages(Reach::Process);
