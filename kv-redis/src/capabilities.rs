//! What each kind of store can do, as constants that are known before one is opened.

use kv_core::{Capabilities, Durability, List, Reach, Survives, Transactions};

use crate::config::DEFAULT_GROUP_SEGMENTS;
use crate::layout::Shape;

/// A namespace with an index on a single server that writes no file: the default.
pub const CAPABILITIES: Capabilities = Capabilities::CORE
    .with_versions()
    .with_deadlines()
    .with_conditions()
    .with_previous()
    .with_list(List::Native)
    .with_touch()
    .with_counters()
    .with_transactions(Transactions::Any)
    .with_watch(Reach::Shared)
    .with_watch_expiry()
    .with_messages(Reach::Shared)
    .with_shared()
    .with_durability(Durability::surviving(Survives::Process));

/// A namespace with an index on a cluster. Its keys are spread by their first two segments, and transactions stay within those.
pub const CLUSTER_CAPABILITIES: Capabilities =
    CAPABILITIES.with_transactions(Transactions::WithinFirst(DEFAULT_GROUP_SEGMENTS));

/// A namespace without index on a single server: a list scans.
pub const INDEX_FREE_CAPABILITIES: Capabilities = CAPABILITIES.with_list(List::Emulated);

/// A namespace without index on a cluster: a list scans every master.
pub const CLUSTER_INDEX_FREE_CAPABILITIES: Capabilities = CLUSTER_CAPABILITIES.with_list(List::Emulated);

/// Bare values that other programs share, on a single server: without versions.
pub const PLAIN_CAPABILITIES: Capabilities = Capabilities::CORE
    .with_deadlines()
    .with_conditions()
    .with_previous()
    .with_list(List::Emulated)
    .with_touch()
    .with_counters()
    .with_transactions(Transactions::Any)
    .with_watch(Reach::Shared)
    .with_watch_expiry()
    .with_messages(Reach::Shared)
    .with_shared()
    .with_durability(Durability::surviving(Survives::Process));

/// Bare values on a cluster: each key lies where its own name puts it, so there are no transactions.
pub const CLUSTER_PLAIN_CAPABILITIES: Capabilities = PLAIN_CAPABILITIES.with_transactions(Transactions::None);

/// What is found out about the servers when a store is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) may_evict: bool,
    pub(crate) durability: Durability,
}

pub(crate) fn capabilities(
    shape: Shape,
    is_cluster: bool,
    buckets: u16,
    group_segments: u8,
    found: Found,
) -> Capabilities {
    let mut capabilities = match (shape, is_cluster) {
        (Shape::Ordered, false) => CAPABILITIES,
        (Shape::Ordered, true) => CLUSTER_CAPABILITIES,
        (Shape::Free, false) => INDEX_FREE_CAPABILITIES,
        (Shape::Free, true) => CLUSTER_INDEX_FREE_CAPABILITIES,
        (Shape::Plain, false) => PLAIN_CAPABILITIES,
        (Shape::Plain, true) => CLUSTER_PLAIN_CAPABILITIES,
    };
    if shape != Shape::Plain {
        let reach =
            if is_cluster && buckets > 1 { Transactions::WithinFirst(group_segments) } else { Transactions::Any };
        capabilities = capabilities.with_transactions(reach);
    }
    let Found { may_evict, durability } = found;
    if may_evict {
        capabilities = capabilities.with_may_evict();
    }
    capabilities.with_durability(durability)
}
