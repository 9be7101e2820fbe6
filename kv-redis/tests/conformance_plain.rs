//! The conformance suite in the format that other programs share: each store is a namespace of its own.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
use conformance_tests::Suite;
use kv_redis::{Format, PLAIN};

mod support;

fn main() {
    Suite::new("redis-plain", PLAIN, |fresh| {
        support::at(&support::server().url()).namespace(fresh.name()).format(Format::Plain).open()
    })
    .with_reopen()
    .with_second_handle()
    .main()
}
