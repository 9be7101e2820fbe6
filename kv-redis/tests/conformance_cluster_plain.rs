//! The conformance suite in plain format, on a cluster. Each store is a separate namespace.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use conformance_tests::{Fresh, Suite};
use kv_redis::{CLUSTER_PLAIN_CAPABILITIES, Format};

mod support;

fn main() {
    let open = |url: String, fresh: Fresh| support::at(&url).namespace(fresh.name()).format(Format::Plain).open();
    let suite = Suite::on_backend("redis-cluster-plain", CLUSTER_PLAIN_CAPABILITIES, support::start_cluster, open);
    suite.with_reopen().main()
}
