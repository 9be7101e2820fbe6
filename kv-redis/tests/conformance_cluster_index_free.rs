//! The conformance suite without an index, on a cluster: each store is a namespace of its own.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
use conformance_tests::Suite;
use kv_redis::{CLUSTER_INDEX_FREE, Index};

mod support;

fn main() {
    let open = |fresh: conformance_tests::Fresh| {
        support::at(support::cluster_url()).namespace(fresh.name()).index(Index::None).open()
    };
    Suite::new("redis-cluster-index-free", CLUSTER_INDEX_FREE, open).with_reopen().with_second_handle().main()
}
