//! The conformance suite on one server, with handles in two processes. The calls alternate between the handles.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use conformance_tests::{Fresh, Suite};
use kv_redis::CAPABILITIES;

mod support;

fn main() {
    let open = |url: String, fresh: Fresh| support::at(&url).namespace(fresh.name()).open();
    Suite::on_backend("redis-processes", CAPABILITIES, support::start, open).with_reopen().in_two_processes().main()
}
