//! The conformance suite on a cluster of three masters and three replicas. Each store is a separate namespace.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use conformance_tests::{Fresh, Suite};
use kv_redis::CLUSTER_CAPABILITIES;

mod support;

fn main() {
    let open = |url: String, fresh: Fresh| support::at(&url).namespace(fresh.name()).open();
    Suite::on_backend("redis-cluster", CLUSTER_CAPABILITIES, support::start_cluster, open).with_reopen().main()
}
