//! The conformance suite in the format that other programs share, on a cluster: each store is a namespace of its own.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
use conformance_tests::Suite;
use kv_redis::{CLUSTER_PLAIN, Format};

mod support;

fn main() {
    let open = |fresh: conformance_tests::Fresh| {
        support::at(support::cluster_url()).namespace(fresh.name()).format(Format::Plain).open()
    };
    Suite::new("redis-cluster-plain", CLUSTER_PLAIN, open).with_reopen().with_second_handle().main()
}
