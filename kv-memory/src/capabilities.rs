//! What the two engines can do.

use kv_core::{Capabilities, List, Reach, Transactions};

/// What an unbounded store can do: everything, inside this process.
pub const CAPABILITIES: Capabilities = SHARED.with_transactions(Transactions::Any);

/// What a bounded store can do. It may evict live entries, so it has no transactions and promises no locks.
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
