//! The conformance suite in plain format. Each store is a separate namespace.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use conformance_tests::{Fresh, Suite};
use kv_redis::{Format, PLAIN_CAPABILITIES};

mod support;

fn main() {
    let open = |url: String, fresh: Fresh| support::at(&url).namespace(fresh.name()).format(Format::Plain).open();
    Suite::on_backend("redis-plain", PLAIN_CAPABILITIES, support::start, open).with_reopen().main()
}
