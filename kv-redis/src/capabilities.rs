//! The capabilities of each kind of store, as constants, and how a server's settings narrow them.

use kv_core::{Capabilities, Durability, List, Reach, Survives, Transactions};

use crate::config::DEFAULT_GROUP_SEGMENTS;
use crate::layout::Shape;

/// A namespace with an index on a single server that writes no file (the default).
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

/// A namespace with an index on a cluster. The first two segments of a key choose its bucket, and all keys of a
/// transaction must have the same ones.
pub const CLUSTER_CAPABILITIES: Capabilities =
    CAPABILITIES.with_transactions(Transactions::WithinFirst(DEFAULT_GROUP_SEGMENTS));

/// A namespace without an index on a single server: a list scans.
pub const INDEX_FREE_CAPABILITIES: Capabilities = CAPABILITIES.with_list(List::Emulated);

/// A namespace without an index on a cluster: a list scans every master.
pub const CLUSTER_INDEX_FREE_CAPABILITIES: Capabilities = CLUSTER_CAPABILITIES.with_list(List::Emulated);

/// Bare values that are shared with other programs, on a single server; without versions.
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

/// Bare values on a cluster. The slot of each key follows from its own name, so there are no transactions.
pub const CLUSTER_PLAIN_CAPABILITIES: Capabilities = PLAIN_CAPABILITIES.with_transactions(Transactions::None);

/// The settings of the servers when the store is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Observed {
    pub(crate) may_evict: bool,
    pub(crate) durability: Durability,
}

/// The capabilities of an open store.
pub(crate) fn capabilities(
    shape: Shape,
    is_cluster: bool,
    buckets: u16,
    group_segments: u8,
    observed: Observed,
) -> Capabilities {
    let mut capabilities = match (shape, is_cluster) {
        (Shape::Indexed, false) => CAPABILITIES,
        (Shape::Indexed, true) => CLUSTER_CAPABILITIES,
        (Shape::IndexFree, false) => INDEX_FREE_CAPABILITIES,
        (Shape::IndexFree, true) => CLUSTER_INDEX_FREE_CAPABILITIES,
        (Shape::Plain, false) => PLAIN_CAPABILITIES,
        (Shape::Plain, true) => CLUSTER_PLAIN_CAPABILITIES,
    };
    if shape != Shape::Plain {
        let reach =
            if is_cluster && buckets > 1 { Transactions::WithinFirst(group_segments) } else { Transactions::Any };
        capabilities = capabilities.with_transactions(reach);
    }
    let Observed { may_evict, durability } = observed;
    if may_evict {
        capabilities = capabilities.with_may_evict();
    }
    capabilities.with_durability(durability)
}
