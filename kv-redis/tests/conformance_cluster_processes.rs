//! The conformance suite on a cluster, with handles in two processes. The calls alternate between the handles.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use conformance_tests::{Fresh, Suite};
use kv_redis::CLUSTER_CAPABILITIES;

mod support;

fn main() {
    let open = |url: String, fresh: Fresh| support::at(&url).namespace(fresh.name()).open();
    let suite = Suite::on_backend("redis-cluster-processes", CLUSTER_CAPABILITIES, support::start_cluster, open);
    suite.with_reopen().in_two_processes().main()
}
