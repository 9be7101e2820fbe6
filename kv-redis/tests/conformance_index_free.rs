//! The conformance suite without an index. Each store is a separate namespace.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use conformance_tests::{Fresh, Suite};
use kv_redis::{INDEX_FREE_CAPABILITIES, Index};

mod support;

fn main() {
    let open = |url: String, fresh: Fresh| support::at(&url).namespace(fresh.name()).index(Index::None).open();
    Suite::on_backend("redis-index-free", INDEX_FREE_CAPABILITIES, support::start, open).with_reopen().main()
}
