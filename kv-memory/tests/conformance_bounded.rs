//! The conformance suite with a bounded store.

use conformance_tests::Suite;
use kv_memory::{BOUNDED_CAPABILITIES, MemoryStore};

fn main() {
    let open = |fresh: conformance_tests::Fresh| async move {
        MemoryStore::builder().max_entries(10_000).clock(fresh.clock()).build()
    };
    Suite::new("memory, bounded", BOUNDED_CAPABILITIES, open).with_clock().main()
}
