//! The conformance suite through TLS, with a user whose rights are those that the README asks for.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
use std::sync::OnceLock;

use conformance_tests::Suite;
use kv_redis::STANDALONE;
use test_servers::redis::Redis;

mod support;

fn server() -> &'static Redis {
    static SERVER: OnceLock<Redis> = OnceLock::new();
    SERVER.get_or_init(|| Redis::builder().tls().start().unwrap())
}

fn main() {
    let open = |fresh: conformance_tests::Fresh| {
        let server = server();
        support::at(&server.tls_url()).ca(server.ca_certificate()).namespace(fresh.name()).open()
    };
    Suite::new("redis-tls", STANDALONE, open).with_reopen().with_second_handle().main()
}
