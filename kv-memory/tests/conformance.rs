//! The conformance suite with an unbounded store.

use conformance_tests::Suite;
use kv_memory::{CAPABILITIES, MemoryStore};

fn main() {
    let open = |fresh: conformance_tests::Fresh| async move { MemoryStore::builder().clock(fresh.clock()).build() };
    Suite::new("memory", CAPABILITIES, open).with_clock().main()
}
