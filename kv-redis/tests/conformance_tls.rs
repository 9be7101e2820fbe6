//! The conformance suite through TLS, with a user whose rights are those that the README asks for.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use conformance_tests::{Fresh, Suite};
use kv_redis::STANDALONE;
use test_servers::redis::Redis;

mod support;

fn main() {
    let start = || {
        let server = Redis::builder().tls().start().unwrap();
        let url = format!("{}?ca={}", server.tls_url(), server.ca_certificate().display());
        (server, url)
    };
    let open = |url: String, fresh: Fresh| support::at(&url).namespace(fresh.name()).open();
    Suite::on_backend("redis-tls", STANDALONE, start, open).with_reopen().main()
}
