//! The whole contract.

use conformance_tests::Suite;
use kv_sled::{CAPABILITIES, SledStore};

fn main() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().to_owned();
    Suite::new("sled", CAPABILITIES, move |fresh| {
        SledStore::builder().clock(fresh.clock()).open(path.join(fresh.name()))
    })
    .with_clock()
    .with_reopen()
    .main()
}
