//! The conformance suite on one server whose keys are spread over four buckets. Each store is a separate namespace.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use conformance_tests::{Fresh, Suite};
use kv_redis::CAPABILITIES;

mod support;

fn main() {
    let open = |url: String, fresh: Fresh| support::at(&url).namespace(fresh.name()).buckets(4).open();
    Suite::on_backend("redis-buckets", CAPABILITIES, support::start, open).with_reopen().main()
}
