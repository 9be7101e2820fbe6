//! The conformance suite on a database in memory.

use conformance_tests::Suite;
use kv_sqlite::{MEMORY_CAPABILITIES, SqliteStore};

fn suite() -> Suite {
    let open = |fresh: conformance_tests::Fresh| SqliteStore::builder().in_memory().clock(fresh.clock()).open();
    Suite::new("sqlite in memory", MEMORY_CAPABILITIES, open).with_clock()
}

conformance_tests::tests!(suite());
