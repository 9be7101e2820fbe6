//! The capabilities of a store.

use kv_core::{Capabilities, Durability, List, Reach, Survives, Transactions};

use crate::config::DEFAULT_GROUP_SEGMENTS;
use crate::layout::Shape;

/// The capabilities of a namespace with an index, on a single server without an append-only file. These are the
/// defaults.
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
    .with_sinks()
    .with_messages(Reach::Shared)
    .with_shared()
    .with_durability(Durability::surviving(Survives::Process));

/// The capabilities of a namespace with an index, on a cluster. All keys of a transaction must have the same first two
/// segments, because these segments choose the bucket.
pub const CLUSTER_CAPABILITIES: Capabilities =
    CAPABILITIES.with_transactions(Transactions::WithinFirst(DEFAULT_GROUP_SEGMENTS));

/// The capabilities of a namespace without an index, on a single server. A list scans the database.
pub const INDEX_FREE_CAPABILITIES: Capabilities = CAPABILITIES.with_list(List::Emulated);

/// The capabilities of a namespace without an index, on a cluster. A list scans every master.
pub const CLUSTER_INDEX_FREE_CAPABILITIES: Capabilities = CLUSTER_CAPABILITIES.with_list(List::Emulated);

/// The capabilities of the plain format on a single server. Its bare values, which other programs may share, have no
/// versions.
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
    .with_sinks()
    .with_messages(Reach::Shared)
    .with_shared()
    .with_durability(Durability::surviving(Survives::Process));

/// The capabilities of the plain format on a cluster. There are no transactions, because each key is in a separate
/// slot.
pub const CLUSTER_PLAIN_CAPABILITIES: Capabilities = PLAIN_CAPABILITIES.with_transactions(Transactions::None);

/// The settings of the servers that narrow the capabilities of the store. The store reads these settings when it is
/// opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Observed {
    pub(crate) may_evict: bool,
    pub(crate) durability: Durability,
    /// True if every server reports its run id, by which the heartbeats recognise the server.
    pub(crate) has_run_id: bool,
}

/// Returns the capabilities of an open store.
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
    let Observed { may_evict, durability, has_run_id } = observed;
    capabilities.sinks &= has_run_id;
    if may_evict {
        capabilities = capabilities.with_may_evict();
    }
    capabilities.with_durability(durability)
}
