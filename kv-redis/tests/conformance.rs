//! The conformance suite on one server: each store is a namespace of its own.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
use conformance_tests::{Fresh, Suite};
use kv_redis::{RedisBuilder, STANDALONE};

fn main() {
    let server = test_servers::redis::Redis::start().unwrap();
    let url = server.url();
    let open = move |fresh: Fresh| {
        let builder = url.parse().and_then(|url| RedisBuilder::from_url(&url));
        async move { builder?.namespace(fresh.name()).open().await }
    };
    let suite = Suite::new("redis", STANDALONE, open).with_reopen().with_second_handle();
    suite.main()
}
