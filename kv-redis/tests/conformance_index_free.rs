//! The conformance suite without an index: each store is a namespace of its own.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
use conformance_tests::Suite;
use kv_redis::{INDEX_FREE, Index};

mod support;

fn main() {
    Suite::new("redis-index-free", INDEX_FREE, |fresh| {
        support::at(&support::server().url()).namespace(fresh.name()).index(Index::None).open()
    })
    .with_reopen()
    .with_second_handle()
    .main()
}
