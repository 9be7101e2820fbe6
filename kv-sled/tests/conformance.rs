//! The conformance suite with the default durability.

mod scratch;

use conformance_tests::Suite;
use kv_sled::{CAPABILITIES, SledStore};

fn main() {
    let open = |fresh: conformance_tests::Fresh| {
        SledStore::builder().clock(fresh.clock()).open(scratch::folder().join(fresh.name()))
    };
    Suite::new("sled", CAPABILITIES, open).with_clock().with_reopen().main()
}
