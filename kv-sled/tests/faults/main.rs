//! What goes wrong around a store: full disks, damaged files, a second opener, missing rights and descriptors.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod child;
mod damage;
mod disk;
mod openers;
mod salvage;

/// Does what its environment says, in a process of its own; without that it is no child and ends.
#[test]
fn child_that_opens() {
    child::main();
}
