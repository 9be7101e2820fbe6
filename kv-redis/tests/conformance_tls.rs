//! The conformance suite through TLS, with a user who has only the rights in the README.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use conformance_tests::{Fresh, Suite};
use kv_redis::CAPABILITIES;
use test_servers::redis::Redis;

mod support;

fn main() {
    let start = || {
        let rights = support::rights("ct_*", "");
        let server = Redis::builder().tls().acl_user("ada", "s3cret", &rights).start().unwrap();
        let url = format!("{}?ca={}&user=ada&pass=s3cret", server.tls_url(), server.ca_certificate().display());
        (server, url)
    };
    let open = |url: String, fresh: Fresh| support::at(&url).namespace(fresh.name()).open();
    Suite::on_backend("redis-tls", CAPABILITIES, start, open).with_reopen().main()
}
