//! The conformance suite on files that two processes have open. The calls alternate between the handles of the
//! processes. The stores use the system's clock.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;

use conformance_tests::{Fresh, Suite};
use kv_sqlite::{CAPABILITIES, SqliteStore};

fn main() {
    let start = || {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().display().to_string();
        (folder, path)
    };
    let open = |path: String, fresh: Fresh| SqliteStore::builder().path(Path::new(&path).join(fresh.name())).open();
    Suite::on_backend("sqlite-processes", CAPABILITIES, start, open).with_reopen().in_two_processes().main()
}
