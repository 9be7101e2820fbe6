//! The conformance suite without an index, on a cluster. Each store is a separate namespace.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use conformance_tests::{Fresh, Suite};
use kv_redis::{CLUSTER_INDEX_FREE_CAPABILITIES, Index};

mod support;

fn main() {
    let open = |url: String, fresh: Fresh| support::at(&url).namespace(fresh.name()).index(Index::None).open();
    let suite =
        Suite::on_backend("redis-cluster-index-free", CLUSTER_INDEX_FREE_CAPABILITIES, support::start_cluster, open);
    suite.with_reopen().main()
}
