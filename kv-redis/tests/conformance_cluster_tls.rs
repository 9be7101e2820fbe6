//! The conformance suite on a cluster through TLS, with a user who has only the rights in the README.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use conformance_tests::{Fresh, Suite};
use kv_redis::CLUSTER_CAPABILITIES;
use test_servers::cluster::RedisCluster;

mod support;

fn main() {
    let start = || {
        let builder = RedisCluster::builder().tls().password("of the default user");
        let cluster =
            builder.acl_user("ada", "s3cret", &support::rights("ct_*", support::CLUSTER_RIGHTS)).start().unwrap();
        let url = format!("{}&ca={}", cluster.tls_url_of("ada", "s3cret"), cluster.ca_certificate().display());
        (cluster, url)
    };
    let open = |url: String, fresh: Fresh| support::at(&url).namespace(fresh.name()).open();
    Suite::on_backend("redis-cluster-tls", CLUSTER_CAPABILITIES, start, open).with_reopen().main()
}
