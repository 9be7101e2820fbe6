//! Runs the conformance suite.

use adapter_template::{CAPABILITIES, JournalStore};
use conformance_tests::{Fresh, Suite};

fn main() {
    let open = |fresh: Fresh| async move { JournalStore::open_with_clock(fresh.folder()?.join("journal"), fresh.clock()).await };
    Suite::new("journal", CAPABILITIES, open).with_clock().with_reopen().with_crash().main()
}
