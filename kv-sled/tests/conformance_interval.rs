//! The conformance suite with write-behind.

mod scratch;

use std::time::Duration;

use conformance_tests::Suite;
use kv_core::Durability;
use kv_sled::{CAPABILITIES, SledDurability, SledStore};

/// The interval of write-behind. It is so short that the buffer is flushed while a case runs, and so long that cases
/// read pending writes.
const INTERVAL: Duration = Duration::from_millis(20);

fn main() {
    let open = |fresh: conformance_tests::Fresh| {
        let builder = SledStore::builder().durability(SledDurability::Interval(INTERVAL)).clock(fresh.clock());
        builder.open(scratch::folder().join(fresh.name()))
    };
    let capabilities =
        CAPABILITIES.with_durability(Durability::surviving(kv_core::Survives::Process).with_interval(INTERVAL));
    Suite::new("sled, interval", capabilities, open).with_clock().with_reopen().main()
}
