//! The conformance suite on one server: each store is a namespace of its own.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
use conformance_tests::Suite;
use kv_redis::STANDALONE;

mod support;

fn main() {
    Suite::new("redis", STANDALONE, |fresh| support::at(&support::server().url()).namespace(fresh.name()).open())
        .with_reopen()
        .with_second_handle()
        .main()
}
