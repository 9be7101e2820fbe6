//! Runs the conformance suite.

use adapter_template::{CAPABILITIES, JournalStore};
use conformance_tests::{Fresh, Suite};

fn main() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().to_owned();
    let open = move |fresh: Fresh| JournalStore::open_with_clock(path.join(fresh.name()), fresh.clock());
    // `main` ends the process without dropping the folder, so the folder stays in the temporary directory.
    Suite::new("journal", CAPABILITIES, open).with_clock().with_reopen().main()
}
