//! The conformance suite on one file. Each store of the suite is a separate table of this file.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
use conformance_tests::{Fresh, Suite};
use kv_sqlite::{CAPABILITIES, SqliteStore};

fn suite() -> Suite {
    let folder = tempfile::tempdir().unwrap();
    let open = move |fresh: Fresh| {
        SqliteStore::builder().path(folder.path().join("store.sqlite")).table(fresh.name()).clock(fresh.clock()).open()
    };
    Suite::new("sqlite", CAPABILITIES, open).with_clock().with_reopen().with_second_handle()
}

conformance_tests::tests!(suite());
