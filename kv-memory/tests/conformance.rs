//! The conformance suite with an unbounded and with a bounded store.

use conformance_tests::Suite;
use kv_memory::{BOUNDED_CAPABILITIES, CAPABILITIES, MemoryStore};

fn main() {
    let unbounded =
        Suite::new("memory", CAPABILITIES, |fresh| async move { MemoryStore::builder().clock(fresh.clock()).build() });
    let bounded = Suite::new("memory-bounded", BOUNDED_CAPABILITIES, |fresh| async move {
        MemoryStore::builder().max_entries(10_000).clock(fresh.clock()).build()
    });
    Suite::main_of([unbounded.with_clock(), bounded.with_clock()])
}
