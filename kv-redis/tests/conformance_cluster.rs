//! The conformance suite on a cluster of three masters and three replicas: each store is a namespace of its own.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
use conformance_tests::Suite;
use kv_redis::CLUSTER;

mod support;

fn main() {
    Suite::new("redis-cluster", CLUSTER, |fresh| support::at(support::cluster_url()).namespace(fresh.name()).open())
        .with_reopen()
        .with_second_handle()
        .main()
}
